// constant, and add, sub, mul, div, minimum, maximum of two values: one float32 rounding each, as PyTorch computes
// them.
#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::OpKind;
using compiler::Shape;

class ConstantStep final : public Step {
 public:
  explicit ConstantStep(std::vector<float> values) : values_(std::move(values)) {}

  void run(std::int64_t batch, std::span<const float* const>, float* out, const RawResult*,
           const StepRun&) const override {
    for (std::int64_t b = 0; b < batch; ++b) out = std::copy(values_.begin(), values_.end(), out);
  }

 private:
  std::vector<float> values_;
};

template <OpKind kOp>
float combine(float a, float b) {
  if constexpr (kOp == OpKind::kAdd) return a + b;
  if constexpr (kOp == OpKind::kSub) return a - b;
  if constexpr (kOp == OpKind::kMul) return a * b;
  if constexpr (kOp == OpKind::kDiv) return a / b;
  if (a != a) return a;  // NaN wins on either side, as in PyTorch
  if constexpr (kOp == OpKind::kMinimum) return b > a ? a : b;
  if constexpr (kOp == OpKind::kMaximum) return b < a ? a : b;
}

/// Both operands have the result's rank; a dimension of 1 is repeated.
template <OpKind kOp>
class BinaryStep final : public Step {
 public:
  BinaryStep(Shape out, const Shape& a, const Shape& b) : out_(std::move(out)), a_(strides_in(a)), b_(strides_in(b)) {
    if (out_.empty()) out_ = {1}, a_.strides = b_.strides = {0};
  }

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const float* a = inputs[0];
    const float* b = inputs[1];
    for (std::int64_t i = 0; i < batch; ++i, a += a_.elements, b += b_.elements) out = combine_all(0, a, b, out);
  }

 private:
  struct Operand {
    Shape strides;  // 0 where a dimension of 1 is repeated
    std::int64_t elements = 1;
  };

  static Operand strides_in(const Shape& shape) {
    Operand operand{Shape(shape.size()), 1};
    for (std::size_t i = shape.size(); i-- > 0;) {
      operand.strides[i] = shape[i] == 1 ? 0 : operand.elements;
      operand.elements *= shape[i];
    }
    return operand;
  }

  float* combine_all(std::size_t dim, const float* a, const float* b, float* out) const {
    const std::int64_t size = out_[dim];
    const std::int64_t step_a = a_.strides[dim];
    const std::int64_t step_b = b_.strides[dim];
    if (dim + 1 == out_.size()) {
      for (std::int64_t i = 0; i < size; ++i) out[i] = combine<kOp>(a[i * step_a], b[i * step_b]);
      return out + size;
    }
    for (std::int64_t i = 0; i < size; ++i) out = combine_all(dim + 1, a + i * step_a, b + i * step_b, out);
    return out;
  }

  Shape out_;
  Operand a_, b_;
};

std::unique_ptr<Step> make_constant(const StepContext& context, const Node& node) {
  return std::make_unique<ConstantStep>(tensor_of<float>(context, node, "value", node.shape));
}

template <OpKind kOp>
std::unique_ptr<Step> make_binary(const StepContext& context, const Node& node) {
  return std::make_unique<BinaryStep<kOp>>(node.shape, context.graph.shape_of(node.inputs[0]),
                                           context.graph.shape_of(node.inputs[1]));
}

}  // namespace

std::span<const StepRow> binary_steps() {
  static constexpr std::array kSteps = {StepRow{OpKind::kConstant, make_constant},
                                        StepRow{OpKind::kAdd, make_binary<OpKind::kAdd>},
                                        StepRow{OpKind::kSub, make_binary<OpKind::kSub>},
                                        StepRow{OpKind::kMul, make_binary<OpKind::kMul>},
                                        StepRow{OpKind::kDiv, make_binary<OpKind::kDiv>},
                                        StepRow{OpKind::kMinimum, make_binary<OpKind::kMinimum>},
                                        StepRow{OpKind::kMaximum, make_binary<OpKind::kMaximum>}};
  return kSteps;
}

}  // namespace cimq::runtime
