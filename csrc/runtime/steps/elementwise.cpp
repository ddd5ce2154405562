// relu, clamp, affine, leaky_relu, prelu: one float32 rounding per operation, as PyTorch computes them; activation
// functions.
#include <array>
#include <cstddef>
#include <utility>

#include "common/error.h"
#include "kernels/activation.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::OpKind;
using compiler::Shape;

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

class ActivationStep final : public Step {
 public:
  ActivationStep(kernels::Activation kind, std::int64_t elements, float alpha)
      : kind_(kind), elements_(elements), alpha_(alpha) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    kernels::cpu::activation(kind_, inputs[0], batch * elements_, out, alpha_);
  }

 private:
  kernels::Activation kind_;
  std::int64_t elements_;
  float alpha_;
};

/// x where it is positive, else x * slope[c]; with one slope, of all channels.
class LeakyStep final : public Step {
 public:
  LeakyStep(std::vector<float> slopes, std::int64_t inner) : slopes_(std::move(slopes)), inner_(inner) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const float* x = inputs[0];
    for (std::int64_t b = 0; b < batch; ++b) {
      for (const float slope : slopes_) {
        for (std::int64_t i = 0; i < inner_; ++i, ++x) *out++ = *x > 0.0F ? *x : *x * slope;
      }
    }
  }

 private:
  std::vector<float> slopes_;
  std::int64_t inner_;  // values that share a slope
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

std::unique_ptr<Step> make_relu(const StepContext&, const Node& node) {
  return std::make_unique<ClampStep>(compiler::elements(node.shape), 0.0F, std::nullopt);
}

std::unique_ptr<Step> make_clamp(const StepContext&, const Node& node) {
  return std::make_unique<ClampStep>(compiler::elements(node.shape), node.clamp_min, node.clamp_max);
}

std::unique_ptr<Step> make_leaky_relu(const StepContext&, const Node& node) {
  return std::make_unique<LeakyStep>(std::vector{node.slope}, compiler::elements(node.shape));
}

std::unique_ptr<Step> make_prelu(const StepContext& context, const Node& node) {
  const auto& shape = context.weights.at(node.tensors.at("weight")).shape;
  const std::int64_t slopes = shape == Shape{1} ? 1 : node.shape[0];
  return std::make_unique<LeakyStep>(tensor_of<float>(context, node, "weight", {slopes}),
                                     compiler::elements(node.shape) / slopes);
}

std::unique_ptr<Step> make_affine(const StepContext& context, const Node& node) {
  const std::int64_t channels = node.shape[0];
  return std::make_unique<AffineStep>(tensor_of<float>(context, node, "scale", {channels}),
                                      tensor_of<float>(context, node, "shift", {channels}),
                                      compiler::elements(node.shape) / channels);
}

/// The function of the operation's name.
std::unique_ptr<Step> make_activation(const StepContext&, const Node& node) {
  const auto kind = kernels::activation_of(compiler::name_of(node.op));
  if (!kind) throw Error(message("node '", node.name, "': no function is called ", compiler::name_of(node.op)));
  return std::make_unique<ActivationStep>(*kind, compiler::elements(node.shape), node.alpha);
}

}  // namespace

std::span<const StepRow> elementwise_steps() {
  static constexpr std::array kSteps = {StepRow{OpKind::kRelu, make_relu},
                                        StepRow{OpKind::kClamp, make_clamp},
                                        StepRow{OpKind::kAffine, make_affine},
                                        StepRow{OpKind::kLeakyRelu, make_leaky_relu},
                                        StepRow{OpKind::kPrelu, make_prelu},
                                        StepRow{OpKind::kSigmoid, make_activation},
                                        StepRow{OpKind::kSilu, make_activation},
                                        StepRow{OpKind::kHardsigmoid, make_activation},
                                        StepRow{OpKind::kHardswish, make_activation},
                                        StepRow{OpKind::kElu, make_activation},
                                        StepRow{OpKind::kTanh, make_activation},
                                        StepRow{OpKind::kGelu, make_activation},
                                        StepRow{OpKind::kGeluTanh, make_activation}};
  return kSteps;
}

}  // namespace cimq::runtime
