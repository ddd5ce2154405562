#include "compiler/ir/row_rules.h"

#include <algorithm>

#include "compiler/ir/rows.h"

namespace cimq::compiler::row_rules {
namespace {

const Shape& input_shape(const Graph& graph, const Node& node, std::size_t input) {
  return graph.shape_of(node.inputs[input]);
}

/// At least one row, which says that the input is there; at most all.
std::int64_t clamped(std::int64_t rows, const Shape& in) { return std::clamp<std::int64_t>(rows, 1, rows_of(in)); }

}  // namespace

Needed whole(const Graph&, const Node&, std::size_t, std::int64_t) { return std::nullopt; }

Needed same(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  return clamped(end, input_shape(graph, node, input));
}

Needed broadcast(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  return clamped(end, input_shape(graph, node, input));  // an input of one row has no more
}

Needed window(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const Window& w = node.window;
  return clamped((end - 1) * w.stride[0] - w.pad_top + (w.kernel[0] - 1) * w.dilation[0] + 1,
                 input_shape(graph, node, input));
}

Needed linear(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const Shape& in = input_shape(graph, node, input);
  if (in.size() > 2) return std::nullopt;  // vectors of a row do not follow one another
  return clamped(end, in);
}

Needed slice(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const std::optional<std::size_t> dim = row_dimension(node.shape);
  if (!dim) return std::nullopt;
  return clamped(node.slice_start[*dim] + (end - 1) * node.slice_step[*dim] + 1, input_shape(graph, node, input));
}

Needed pad(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const std::optional<std::size_t> dim = row_dimension(node.shape);
  if (!dim) return std::nullopt;
  return clamped(end - node.pad_before[*dim], input_shape(graph, node, input));
}

Needed cat(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const std::optional<std::size_t> dim = row_dimension(node.shape);
  if (!dim) return std::nullopt;
  if (*dim != static_cast<std::size_t>(node.dim)) return same(graph, node, input, end);
  for (std::size_t i = 0; i < input; ++i) end -= input_shape(graph, node, i)[*dim];
  return clamped(end, input_shape(graph, node, input));
}

Needed along_dim(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const std::optional<std::size_t> dim = row_dimension(node.shape);
  if (!dim || *dim == static_cast<std::size_t>(node.dim)) return std::nullopt;
  return same(graph, node, input, end);
}

Needed layer_norm(const Graph& graph, const Node& node, std::size_t input, std::int64_t end) {
  const std::optional<std::size_t> dim = row_dimension(node.shape);
  if (!dim || *dim + static_cast<std::size_t>(node.dims) >= node.shape.size()) return std::nullopt;
  return same(graph, node, input, end);
}

}  // namespace cimq::compiler::row_rules
