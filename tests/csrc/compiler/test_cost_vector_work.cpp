// Operations of the vector unit, node by node.
#include <catch2/catch.hpp>

#include "compiler/cost/vector_work.h"

using namespace cimq::compiler;

namespace {

Node node_of(OpKind op, std::vector<int> inputs, Shape shape) {
  Node node;
  node.op = op;
  node.inputs = std::move(inputs);
  node.shape = std::move(shape);
  return node;
}

/// Of a node on an image [8, 6, 6] and a first node [8, 1, 1].
std::int64_t operations(const Node& node) {
  Graph graph;
  graph.input_shape = {8, 6, 6};
  graph.nodes = {node_of(OpKind::kMean, {-1}, {8, 1, 1})};
  return vector_operations(graph, node);
}

}  // namespace

TEST_CASE("An element of the larger of input and result is an operation", "[vector_work]") {
  CHECK(operations(node_of(OpKind::kRelu, {-1}, {8, 6, 6})) == 288);
  CHECK(operations(node_of(OpKind::kGelu, {-1}, {8, 6, 6})) == 288);
  CHECK(operations(node_of(OpKind::kMul, {0, -1}, {8, 6, 6})) == 288);  // broadcast
  CHECK(operations(node_of(OpKind::kMean, {-1}, {8, 1, 1})) == 288);
  CHECK(operations(node_of(OpKind::kResizeNearest, {-1}, {8, 12, 12})) == 1152);
  CHECK(operations(node_of(OpKind::kSoftmax, {0}, {8, 1, 1})) == 8);
}

TEST_CASE("Windows and products count what goes into an element", "[vector_work]") {
  Node pool = node_of(OpKind::kMaxPool2d, {-1}, {8, 3, 3});
  pool.window.kernel = {3, 2};
  CHECK(operations(pool) == 72 * 6);
  pool.op = OpKind::kAvgPool2d;
  pool.window.kernel = {1, 1};
  CHECK(operations(pool) == 288);  // the input has more elements
  Node conv = node_of(OpKind::kConv2dF32, {-1}, {4, 6, 6});
  conv.window.kernel = {3, 3};
  conv.window.groups = 2;
  CHECK(operations(conv) == 4 * 36 * (8 / 2 * 9));
  CHECK(operations(node_of(OpKind::kLinearF32, {-1}, {8, 6, 10})) == 480 * 6);
  CHECK(operations(node_of(OpKind::kMatmul, {-1, -1}, {8, 6, 10})) == 480 * 6);
}

TEST_CASE("Arrangement takes nothing, and crossbar layers count elsewhere", "[vector_work]") {
  for (const OpKind op : {OpKind::kFlatten, OpKind::kReshape, OpKind::kTranspose, OpKind::kPad, OpKind::kCat}) {
    CHECK(operations(node_of(op, {-1}, {288})) == 0);
  }
  CHECK(operations(node_of(OpKind::kConstant, {}, {4})) == 0);
  Node layer = node_of(OpKind::kCrossbarLinear, {-1}, {8, 6, 3});
  layer.crossbar = CrossbarLayer{};
  CHECK(operations(layer) == 0);
}
