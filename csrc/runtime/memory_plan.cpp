#include "runtime/memory_plan.h"

#include <algorithm>
#include <cstddef>

namespace cimq::runtime {

MemoryPlan plan_memory(const compiler::Graph& graph) {
  const std::size_t count = graph.nodes.size();
  std::vector<std::size_t> last_use(count);
  for (std::size_t i = 0; i < count; ++i) {
    last_use[i] = i;  // a value that nothing reads dies at once
    for (const int input : graph.nodes[i].inputs) {
      if (input >= 0) last_use[static_cast<std::size_t>(input)] = i;
    }
  }
  MemoryPlan plan;
  plan.freed_after.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (static_cast<int>(i) != graph.output) plan.freed_after[last_use[i]].push_back(static_cast<int>(i));
  }
  std::int64_t live = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const compiler::Node& node = graph.nodes[i];
    const std::int64_t own = compiler::elements(node.shape);
    live += own;
    // A crossbar layer holds its quantised input (a byte each) and its raw result beside the value itself.
    const std::int64_t work =
        node.crossbar ? own + compiler::elements(graph.shape_of(node.inputs[0])) / 4 + 1 : std::int64_t{0};
    plan.peak_elements = std::max(plan.peak_elements, live + work);
    for (const int value : plan.freed_after[i])
      live -= compiler::elements(graph.nodes[static_cast<std::size_t>(value)].shape);
  }
  return plan;
}

}  // namespace cimq::runtime
