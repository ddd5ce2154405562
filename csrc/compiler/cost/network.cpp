#include "compiler/cost/network.h"

namespace cimq::compiler {

LayerShape latency_shape(const CrossbarLayer& layer) {
  return {layer.layer_name, layer.outputs, layer.inputs_per_output, layer.invocations, layer.repeats};
}

NetworkCost closed_form(const Graph& graph, const Hardware& hardware) {
  NetworkCost sum;
  for (const Node& node : graph.nodes) {
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    const Tier1Cost cost = tier1(hardware_of(hardware, layer), latency_shape(layer), layer.weight_bits, layer.act_bits);
    const std::string what = "layer '" + layer.layer_name + "'";
    sum.writes = checked_sum(sum.writes, cost.writes, what);
    sum.mvms = checked_sum(sum.mvms, cost.mvms, what);
    sum.time_ps = checked_sum(sum.time_ps, cost.time_ps(), what);
  }
  return sum;
}

}  // namespace cimq::compiler
