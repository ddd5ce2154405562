#include "compiler/ir/graph.h"

#include "common/error.h"
#include "compiler/ir/operators.h"

namespace cimq::compiler {

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += message(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

void refuse(const Node& node, const std::string& reason) {
  throw Error(message("layers.json: node '", node.name, "' (", name_of(node.op), "): ", reason));
}

std::string_view name_of(OpKind op) { return operator_of(op).name; }

bool is_crossbar(OpKind op) { return operator_of(op).on_crossbars; }

const CrossbarLayer& crossbar_of(const Node& node) {
  if (!node.crossbar) throw Error(message("node '", node.name, "' is no crossbar layer"));
  return *node.crossbar;
}

Hardware hardware_of(const Hardware& network, const CrossbarLayer& layer) {
  return layer_hardware(network, layer.machine, layer.layer_name);
}

bool is_conv(OpKind op) { return operator_of(op).product == Product::kConvolution; }

bool writes_operand(OpKind op) {
  const Operator& row = operator_of(op);
  return row.on_crossbars && row.product == Product::kMatmul;
}

std::int64_t elements(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  return count;
}

Shape infer_shape(const Graph& graph, const Node& node) { return operator_of(node.op).shape(graph, node); }

}  // namespace cimq::compiler
