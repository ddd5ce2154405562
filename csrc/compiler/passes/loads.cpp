#include "compiler/passes/loads.h"

#include <algorithm>

#include "compiler/cost/durations.h"
#include "compiler/cost/tier1.h"
#include "compiler/ir/rows.h"

namespace cimq::compiler {

LayerLoad load_of(const Hardware& network, const CrossbarLayer& layer, const LayerTiling& tiling, bool passes) {
  const Hardware hardware = hardware_of(network, layer);
  // All tiles see a vector together: the widest has most to convert.
  const std::int64_t columns = std::min<std::int64_t>(tiling.columns, hardware.cols);
  const std::int64_t step_ps = digit_time(hardware, converted_lines(hardware, 0, columns)).step_ps();
  return {tiling.tiles(), layer.repeats, layer.invocations, step_ps * tiling.digits, 1, passes};
}

std::vector<LayerLoad> loads_of(const Module& module) {
  std::vector<LayerLoad> loads;
  loads.reserve(tiles_of(module).size());
  for (const TiledLayer& layer : tiles_of(module)) {
    const Node& node = module.graph.nodes[layer.node];
    loads.push_back(load_of(module.hardware, crossbar_of(node), layer.tiling, writes_operand(node.op)));
  }
  return loads;
}

LayerRows layer_rows(const Graph& graph, const Node& node) {
  if (comes_in_rows(graph, node)) return {rows_of(node.shape), vectors_per_row(node)};
  return {1, crossbar_of(node).invocations};
}

std::vector<LayerRows> rows_of_layers(const Module& module) {
  std::vector<LayerRows> rows;
  rows.reserve(tiles_of(module).size());
  for (const TiledLayer& layer : tiles_of(module)) {
    rows.push_back(layer_rows(module.graph, module.graph.nodes[layer.node]));
  }
  return rows;
}

PoolMachine pool_machine(const Hardware& hardware, std::int64_t batch) {
  return {0, picoseconds(hardware.timing.write_time_us), hardware.resources.parallel_writes.value_or(0), batch};
}

}  // namespace cimq::compiler
