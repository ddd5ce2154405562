#include "compiler/cost/vector_work.h"

#include <algorithm>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/ir/operators.h"

namespace cimq::compiler {
namespace {

constexpr std::uint64_t kMost = std::uint64_t{1} << 62;

bool only_arranges(OpKind op) {
  switch (op) {
    case OpKind::kFlatten:
    case OpKind::kReshape:
    case OpKind::kSlice:
    case OpKind::kPad:
    case OpKind::kCat:
    case OpKind::kConstant:
    case OpKind::kTranspose:
    case OpKind::kExpand:
    case OpKind::kFlip:
    case OpKind::kReflectionPad:
    case OpKind::kReplicationPad:
    case OpKind::kCircularPad:
      return true;
    default:
      return false;
  }
}

/// What goes into one element of the result.
std::uint64_t operations_each(const Graph& graph, const Node& node) {
  const auto& kernel = node.window.kernel;
  if (node.op == OpKind::kMaxPool2d || node.op == OpKind::kAvgPool2d)
    return saturating_product(1, kernel[0], kernel[1]);
  const Shape& input = graph.shape_of(node.inputs[0]);
  switch (operator_of(node.op).product) {
    case Product::kConvolution:
      return saturating_product(1, input[0] / node.window.groups, kernel[0], kernel[1]);
    case Product::kLinear:
    case Product::kMatmul:
      return static_cast<std::uint64_t>(input.back());
    case Product::kNone:
      break;
  }
  return 1;
}

}  // namespace

std::int64_t vector_operations(const Graph& graph, const Node& node) {
  if (node.crossbar || only_arranges(node.op)) return 0;
  std::uint64_t all = saturating_product(1, elements(node.shape), operations_each(graph, node));
  for (const int input : node.inputs) all = std::max(all, static_cast<std::uint64_t>(elements(graph.shape_of(input))));
  check(all <= kMost, "node '", node.name, "' takes more than 2^62 digital operations");
  return static_cast<std::int64_t>(all);
}

}  // namespace cimq::compiler
