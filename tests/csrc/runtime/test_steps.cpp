// Steps of arithmetic and normalisation by themselves: small graphs, values written down.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "common/error.h"
#include "compiler/ir/operators.h"
#include "kernels/activation.h"
#include "kernels/softmax.h"
#include "runtime/budget.h"
#include "runtime/bundle_fixture.h"
#include "runtime/steps/step.h"

using Catch::Matchers::Contains;
using cimq::compiler::Graph;
using cimq::compiler::Node;
using cimq::compiler::OpKind;
using cimq::compiler::Shape;

namespace {

using Values = std::vector<float>;

/// A node of two inputs at most, with shapes, run on a batch.
struct Bench {
  Graph graph;
  Node node;
  cimq::test::TensorFile tensors;

  Bench(OpKind op, const Shape& shape, const std::vector<Shape>& inputs) {
    graph.input_name = "x";
    for (const Shape& in : inputs) {
      Node value;
      value.name = cimq::message("v", graph.nodes.size());
      value.shape = in;
      graph.nodes.push_back(value);
      node.inputs.push_back(static_cast<int>(graph.nodes.size()) - 1);
    }
    node.name = "n";
    node.op = op;
    node.shape = shape;
  }

  void tensor(const char* role, const Shape& shape, const Values& values) {
    node.tensors[role] = cimq::message("n.", role);
    tensors.add(cimq::message("n.", role), "F32", shape, values);
  }

  Values run(std::int64_t batch, const std::vector<Values>& inputs) const {
    const cimq::runtime::Safetensors weights(tensors.bytes(), "weights.safetensors");
    const cimq::Hardware hardware;
    constexpr std::uint64_t kEnough = std::uint64_t{1} << 30;
    cimq::runtime::Budget budget(kEnough, kEnough);
    const auto step = cimq::runtime::make_step({graph, hardware, weights, budget}, node);
    std::vector<const float*> pointers;
    pointers.reserve(inputs.size());
    for (const Values& values : inputs) pointers.push_back(values.data());
    Values out(static_cast<std::size_t>(batch * cimq::compiler::elements(node.shape)));
    step->run(batch, pointers, out.data(), nullptr, {});
    return out;
  }
};

}  // namespace

TEST_CASE("operations of two values repeat dimensions of 1", "[steps]") {
  const Values a = {1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6};  // two samples of [2, 3]
  const Values b = {10, 20, -10, -20};                          // two samples of [2, 1]
  const auto result = [&](OpKind op) { return Bench(op, {2, 3}, {{2, 3}, {2, 1}}).run(2, {a, b}); };
  CHECK(result(OpKind::kAdd) == Values{11, 12, 13, 24, 25, 26, -11, -12, -13, -24, -25, -26});
  CHECK(result(OpKind::kSub) == Values{-9, -8, -7, -16, -15, -14, 9, 8, 7, 16, 15, 14});
  CHECK(result(OpKind::kMul) == Values{10, 20, 30, 80, 100, 120, 10, 20, 30, 80, 100, 120});
  CHECK(result(OpKind::kDiv)[4] == 0.25F);
  CHECK(result(OpKind::kMinimum) == Values{1, 2, 3, 4, 5, 6, -10, -10, -10, -20, -20, -20});
  CHECK(result(OpKind::kMaximum) == Values{10, 10, 10, 20, 20, 20, -1, -2, -3, -4, -5, -6});
  // Both sides are repeated: [2, 1] and [1, 3].
  CHECK(Bench(OpKind::kSub, {2, 3}, {{2, 1}, {1, 3}}).run(1, {{10, 20}, {1, 2, 3}}) == Values{9, 8, 7, 19, 18, 17});
  CHECK(Bench(OpKind::kDiv, {}, {{}, {}}).run(3, {{1, 2, 3}, {2, 2, 2}}) == Values{0.5F, 1, 1.5F});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const OpKind op : {OpKind::kMinimum, OpKind::kMaximum}) {
    for (const float value : Bench(op, {2}, {{2}, {2}}).run(1, {{nan, 1}, {1, nan}})) CHECK(std::isnan(value));
  }
}

TEST_CASE("a constant is there for every sample", "[steps]") {
  Bench bench(OpKind::kConstant, {2, 1}, {});
  bench.tensor("value", {2, 1}, {3, 4});
  CHECK(bench.run(3, {}) == Values{3, 4, 3, 4, 3, 4});
  Bench other(OpKind::kConstant, {2, 1}, {});
  other.tensor("value", {2}, {3, 4});
  CHECK_THROWS_WITH(other.run(1, {}), Contains("must have shape [2, 1], got [2]"));
  Bench infinite(OpKind::kConstant, {1}, {});
  infinite.tensor("value", {1}, {std::numeric_limits<float>::infinity()});
  CHECK_THROWS_WITH(infinite.run(1, {}), Contains("must be finite"));
}

TEST_CASE("leaky rectifiers have one slope or one per channel", "[steps]") {
  Bench leaky(OpKind::kLeakyRelu, {2, 2}, {{2, 2}});
  leaky.node.slope = 0.5F;
  CHECK(leaky.run(1, {{-2, 2, 0, -4}}) == Values{-1, 2, 0, -2});
  Bench one(OpKind::kPrelu, {2, 2}, {{2, 2}});
  one.tensor("weight", {1}, {-1});
  CHECK(one.run(1, {{-2, 2, 0, -4}}) == Values{2, 2, 0, 4});
  Bench each(OpKind::kPrelu, {2, 2}, {{2, 2}});
  each.tensor("weight", {2}, {2, 3});
  CHECK(each.run(1, {{-2, 2, 0, -4}}) == Values{-4, 2, 0, -12});
  Bench wrong(OpKind::kPrelu, {2, 2}, {{2, 2}});
  wrong.tensor("weight", {4}, {2, 3, 4, 5});
  CHECK_THROWS_WITH(wrong.run(1, {{-2, 2, 0, -4}}), Contains("must have shape [2], got [4]"));
}

TEST_CASE("functions and normalisations are those of the kernels", "[steps]") {
  const Values x = {-1.5F, 0.25F, 3, -0.125F, 2, -7};
  Bench elu(OpKind::kElu, {6}, {{6}});
  elu.node.alpha = 0.3F;
  Values wanted(6);
  cimq::kernels::cpu::activation(cimq::kernels::Activation::kElu, x.data(), 6, wanted.data(), 0.3F);
  CHECK(elu.run(1, {x}) == wanted);
  Bench soft(OpKind::kLogSoftmax, {2, 3}, {{2, 3}});
  soft.node.dim = 0;
  cimq::kernels::cpu::softmax(x.data(), 1, 2, 3, true, wanted.data());
  CHECK(soft.run(1, {x}) == wanted);
  Bench layer(OpKind::kLayerNorm, {2, 2}, {{2, 2}});
  layer.node.dims = 1;
  layer.tensor("weight", {2}, {2, 1});
  CHECK(layer.run(2, {{1, 3, 2, 6, 3, 1, 6, 2}}) == Values{-2, 1, -2, 1, 2, -1, 2, -1});
  layer.node.dims = 2;
  CHECK_THROWS_WITH(layer.run(1, {{1, 3, 2, 6}}), Contains("must have shape [2, 2], got [2]"));
  Bench group(OpKind::kGroupNorm, {4, 1}, {{4, 1}});
  group.node.groups = 2;
  group.tensor("bias", {4}, {1, 2, 3, 4});
  CHECK(group.run(1, {{1, 3, 2, 6}}) == Values{0, 3, 2, 5});
}

TEST_CASE("fake quantisation rounds half to even, clamps and scales", "[steps]") {
  Bench bench(OpKind::kFakeQuantize, {8}, {{8}});
  bench.tensor("scale", {}, {0.5F});
  bench.node.low = -3;
  bench.node.high = 4;
  CHECK(bench.run(1, {{0.25F, 0.75F, -0.25F, -0.75F, 9, -9, 1.5F, 0.1F}}) == Values{0, 1, 0, -1, 2, -1.5F, 1.5F, 0});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(bench.run(1, {{0, nan, 0, 0, 0, 0, 0, 0}}),
                    Contains("its input must be finite, got nan at element 1"));
  Bench zero(OpKind::kFakeQuantize, {1}, {{1}});
  zero.tensor("scale", {}, {0});
  CHECK_THROWS_WITH(zero.run(1, {{1}}), Contains("scale of node 'n' must be positive, got 0"));
}

TEST_CASE("erf and sqrt", "[steps]") {
  CHECK(Bench(OpKind::kSqrt, {3}, {{3}}).run(1, {{4, 2, 0}}) == Values{2, std::sqrt(2.0F), 0});
  CHECK(std::isnan(Bench(OpKind::kSqrt, {1}, {{1}}).run(1, {{-1}})[0]));
  const Values erf = Bench(OpKind::kErf, {3}, {{3}}).run(1, {{0.5F, -2, 100}});
  CHECK(erf == Values{static_cast<float>(std::erf(0.5)), static_cast<float>(std::erf(-2.0)), 1});
}

TEST_CASE("products of two values, matrix by matrix", "[steps]") {
  const Values a = {1, 2, 3, 4, 5, 6, 7, 8};  // one sample of [2, 2, 2]
  const Values b = {1, 0, 0, 1, 2, 1, 0, -1};
  CHECK(Bench(OpKind::kMatmul, {2, 2, 2}, {{2, 2, 2}, {2, 2, 2}}).run(1, {a, b}) == Values{1, 2, 3, 4, 10, -1, 14, -1});
  // Two samples of [2, 1] times [1, 2].
  CHECK(Bench(OpKind::kMatmul, {2, 2}, {{2, 1}, {1, 2}}).run(2, {{1, 2, 3, 4}, {5, 6, 7, 8}}) ==
        Values{5, 6, 10, 12, 21, 24, 28, 32});
}

TEST_CASE("Every row of the operator table has a step", "[steps]") {
  for (const auto& row : cimq::compiler::operators()) {
    INFO(row.name);
    CHECK(cimq::runtime::has_step(row.kind));
  }
}
