#include "compiler/passes/loads.h"

#include <algorithm>

#include "compiler/cost/durations.h"
#include "compiler/cost/tier1.h"
#include "compiler/ir/rows.h"

namespace cimq::compiler {

std::vector<LayerLoad> loads_of(const Module& module) {
  std::vector<LayerLoad> loads;
  loads.reserve(tiles_of(module).size());
  for (const TiledLayer& layer : tiles_of(module)) {
    const Node& node = module.graph.nodes[layer.node];
    const CrossbarLayer& facts = crossbar_of(node);
    const Hardware hardware = hardware_of(module.hardware, facts);
    // All tiles see a vector together: the widest has most to convert.
    const std::int64_t columns = std::min<std::int64_t>(layer.tiling.columns, hardware.cols);
    const std::int64_t step_ps = digit_time(hardware, converted_lines(hardware, 0, columns)).step_ps();
    loads.push_back({layer.tiling.tiles(), facts.repeats, facts.invocations, step_ps * layer.tiling.digits, 1,
                     writes_operand(node.op)});
  }
  return loads;
}

std::vector<LayerRows> rows_of_layers(const Module& module) {
  std::vector<LayerRows> rows;
  rows.reserve(tiles_of(module).size());
  for (const TiledLayer& layer : tiles_of(module)) {
    const Node& node = module.graph.nodes[layer.node];
    if (comes_in_rows(module.graph, node)) {
      rows.push_back({rows_of(node.shape), vectors_per_row(node)});
    } else {
      rows.push_back({1, crossbar_of(node).invocations});
    }
  }
  return rows;
}

PoolMachine pool_machine(const Hardware& hardware) {
  return {0, picoseconds(hardware.timing.write_time_us), hardware.resources.parallel_writes.value_or(0)};
}

}  // namespace cimq::compiler
