#include "compiler/ir/rows.h"

#include "compiler/ir/operators.h"

namespace cimq::compiler {

std::optional<std::size_t> row_dimension(const Shape& shape) {
  if (shape.size() == 3) return 1;
  if (shape.size() == 2) return 0;
  return std::nullopt;
}

std::int64_t rows_of(const Shape& shape) {
  const std::optional<std::size_t> dim = row_dimension(shape);
  return dim ? shape[*dim] : 1;
}

RowLayout row_layout(const Shape& shape) {
  if (shape.size() == 3) return {shape[0], shape[1], shape[2]};
  if (shape.size() == 2) return {1, shape[0], shape[1]};
  return {1, 1, elements(shape)};
}

bool comes_in_rows(const Graph& graph, const Node& node) {
  for (std::size_t input = 0; input < node.inputs.size(); ++input) {
    if (!operator_of(node.op).rows(graph, node, input, 1)) return false;
  }
  return !node.inputs.empty();
}

std::int64_t rows_needed(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const std::optional<std::int64_t> needed = operator_of(node.op).rows(graph, node, input, end);
  return needed.value_or(rows_of(graph.shape_of(node.inputs[input])));
}

std::int64_t vectors_per_row(const Node& node) { return crossbar_of(node).invocations / rows_of(node.shape); }

}  // namespace cimq::compiler
