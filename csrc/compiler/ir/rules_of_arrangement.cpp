// Shape rules of operations that move, spread or average values.
#include <cstddef>

#include "common/error.h"
#include "compiler/ir/shape_rules.h"

namespace cimq::compiler::shape_rules {
namespace {

/// For each of `rank` dimensions whether node.axes names it; each at most once.
std::vector<bool> named(const Node& node, std::size_t rank, const char* key) {
  std::vector<bool> seen(rank, false);
  for (const std::int64_t dim : node.axes) {
    const auto at = static_cast<std::size_t>(dim);
    if (at >= rank) refuse(node, message(key, " must be below ", rank, ", got ", dim));
    if (seen[at]) refuse(node, message(key, " must not name a dimension twice, got ", dim));
    seen[at] = true;
  }
  return seen;
}

/// As `pad`; every border takes at most the size less `short_of` from the input.
Shape pad_from_inside(const Graph& graph, const Node& node, std::int64_t short_of) {
  Shape out = pad(graph, node);
  const Shape& in = graph.shape_of(node.inputs[0]);
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::int64_t most = in[i] - short_of;
    if (node.pad_before[i] > most || node.pad_after[i] > most) {
      refuse(node, message("before and after must be at most ", most, " in dimension ", i, " of size ", in[i]));
    }
  }
  return out;
}

}  // namespace

Shape to_size(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (in.size() != 3) refuse(node, "needs an input of shape [C, H, W], got " + text_of(in));
  return {in[0], node.size[0], node.size[1]};
}

Shape mean(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  const std::vector<bool> averaged = named(node, in.size(), "dims");
  if (node.axes.empty()) refuse(node, "dims must name a dimension");
  Shape kept, left_out;
  for (std::size_t i = 0; i < in.size(); ++i) {
    kept.push_back(averaged[i] ? 1 : in[i]);
    if (!averaged[i]) left_out.push_back(in[i]);
  }
  return node.shape == kept ? kept : left_out;
}

Shape transpose(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (node.axes.size() != in.size()) refuse(node, message("perm must have ", in.size(), " entries"));
  named(node, in.size(), "perm");
  Shape out;
  for (const std::int64_t dim : node.axes) out.push_back(in[static_cast<std::size_t>(dim)]);
  return out;
}

Shape expand(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  bool fits = in.size() == node.shape.size();
  for (std::size_t i = 0; fits && i < in.size(); ++i) fits = in[i] == 1 || in[i] == node.shape[i];
  if (!fits) refuse(node, "cannot repeat dimensions of 1 of " + text_of(in) + " to " + text_of(node.shape));
  return node.shape;
}

Shape flip(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  named(node, in.size(), "dims");
  return in;
}

Shape reflection_pad(const Graph& graph, const Node& node) { return pad_from_inside(graph, node, 1); }

Shape circular_pad(const Graph& graph, const Node& node) { return pad_from_inside(graph, node, 0); }

}  // namespace cimq::compiler::shape_rules
