// relu, clamp, add, affine: one float32 rounding per operation, as PyTorch computes them.
#include <cstddef>
#include <utility>

#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::OpKind;

class ClampStep final : public Step {
 public:
  ClampStep(std::int64_t elements, std::optional<float> lo, std::optional<float> hi)
      : elements_(elements), lo_(lo), hi_(hi) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const float* x = inputs[0];
    for (std::int64_t i = 0; i < batch * elements_; ++i) {
      float value = x[i];  // comparisons are false for NaN, which therefore passes, as in PyTorch
      if (lo_ && value < *lo_) value = *lo_;
      if (hi_ && value > *hi_) value = *hi_;
      out[i] = value;
    }
  }

 private:
  std::int64_t elements_;
  std::optional<float> lo_, hi_;
};

class AddStep final : public Step {
 public:
  explicit AddStep(std::int64_t elements) : elements_(elements) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    for (std::int64_t i = 0; i < batch * elements_; ++i) out[i] = inputs[0][i] + inputs[1][i];
  }

 private:
  std::int64_t elements_;
};

class AffineStep final : public Step {
 public:
  AffineStep(std::vector<float> scale, std::vector<float> shift, std::int64_t inner)
      : scale_(std::move(scale)), shift_(std::move(shift)), inner_(inner) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const float* x = inputs[0];
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::size_t c = 0; c < scale_.size(); ++c) {
        for (std::int64_t i = 0; i < inner_; ++i) {
          const float scaled = *x++ * scale_[c];
          *out++ = scaled + shift_[c];
        }
      }
    }
  }

 private:
  std::vector<float> scale_, shift_;
  std::int64_t inner_;
};

}  // namespace

std::unique_ptr<Step> make_elementwise_step(const StepContext& context, const Node& node) {
  const std::int64_t elements = compiler::elements(node.shape);
  switch (node.op) {
    case OpKind::kRelu:
      return std::make_unique<ClampStep>(elements, 0.0F, std::nullopt);
    case OpKind::kClamp:
      return std::make_unique<ClampStep>(elements, node.clamp_min, node.clamp_max);
    case OpKind::kAdd:
      return std::make_unique<AddStep>(elements);
    default:
      break;
  }
  const std::int64_t channels = node.shape[0];
  return std::make_unique<AffineStep>(tensor_of<float>(context, node, "scale", {channels}),
                                      tensor_of<float>(context, node, "shift", {channels}), elements / channels);
}

}  // namespace cimq::runtime
