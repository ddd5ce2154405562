#include "runtime/memory_plan.h"

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
  plan.live_elements.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    live += compiler::elements(graph.nodes[i].shape);
    plan.live_elements.push_back(live);
    if (live > plan.live_elements[plan.peak_node]) plan.peak_node = i;
    for (const int value : plan.freed_after[i])
      live -= compiler::elements(graph.nodes[static_cast<std::size_t>(value)].shape);
  }
  return plan;
}

}  // namespace cimq::runtime
