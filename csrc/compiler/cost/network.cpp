#include "compiler/cost/network.h"

#include "common/error.h"

namespace cimq::compiler {

LayerShape latency_shape(const CrossbarLayer& layer) {
  return {layer.layer_name, layer.outputs, layer.inputs_per_output, layer.invocations, layer.repeats};
}

NetworkCost closed_form(const Graph& graph, const Hardware& hardware, std::int64_t batch) {
  NetworkCost sum;
  for (const Node& node : graph.nodes) {
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    const Tier1Cost cost = tier1(hardware_of(hardware, layer), latency_shape(layer), layer.weight_bits, layer.act_bits);
    const std::string what = "layer '" + layer.layer_name + "'";
    const std::int64_t written = writes_operand(node.op) ? batch : 1;
    const auto add = [&what](std::int64_t& all, std::int64_t each, std::int64_t times) {
      std::int64_t more = 0;
      check(!__builtin_mul_overflow(each, times, &more), "latency: ", what, " exceeds 63 bits in a batch (", each,
            " times ", times, ")");
      all = checked_sum(all, more, what);
    };
    add(sum.writes, cost.writes, written);
    add(sum.mvms, cost.mvms, batch);
    add(sum.time_ps, cost.write_time_ps, written);
    add(sum.time_ps, cost.mvm_time_ps, batch);
  }
  return sum;
}

}  // namespace cimq::compiler
