// relu, clamp, affine, leaky_relu, prelu, sqrt: one float32 rounding per operation, as PyTorch computes them;
// activation functions; fake_quantize.
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "common/error.h"
#include "common/rounding.h"
#include "compiler/frontends/strict_json.h"
#include "kernels/activation.h"
#include "kernels/formula/float_functions.h"
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

float rounded_erf(float x) { return static_cast<float>(kernels::erf_of(static_cast<double>(x))); }
float root(float x) { return std::sqrt(x); }

template <float (*kFunction)(float)>
class FunctionStep final : public Step {
 public:
  explicit FunctionStep(std::int64_t elements) : elements_(elements) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    for (std::int64_t i = 0; i < batch * elements_; ++i) out[i] = kFunction(inputs[0][i]);
  }

 private:
  std::int64_t elements_;
};

/// scale * clamp(rint(x / scale), low, high), each operation rounded once.
class FakeQuantizeStep final : public Step {
 public:
  FakeQuantizeStep(const Node& node, float scale)
      : name_(compiler::shown(node.name)),
        elements_(compiler::elements(node.shape)),
        scale_(scale),
        low_(static_cast<float>(node.low)),
        high_(static_cast<float>(node.high)) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    for (std::int64_t i = 0; i < batch * elements_; ++i) {
      const float x = inputs[0][i];
      check(std::isfinite(x), "node '", name_, "': its input must be finite, got ", x, " at element ", i);
      out[i] = scale_ * quantize_value(x, scale_, low_, high_);
    }
  }

 private:
  std::string name_;
  std::int64_t elements_;
  float scale_, low_, high_;
};

template <float (*kFunction)(float)>
std::unique_ptr<Step> make_function(const StepContext&, const Node& node) {
  return std::make_unique<FunctionStep<kFunction>>(compiler::elements(node.shape));
}

std::unique_ptr<Step> make_fake_quantize(const StepContext& context, const Node& node) {
  const float scale = tensor_of<float>(context, node, "scale", {})[0];
  check(scale > 0.0F, "weights.safetensors: scale of node '", compiler::shown(node.name), "' must be positive, got ",
        scale);
  return std::make_unique<FakeQuantizeStep>(node, scale);
}

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
                                        StepRow{OpKind::kGeluTanh, make_activation},
                                        StepRow{OpKind::kErf, make_function<rounded_erf>},
                                        StepRow{OpKind::kSqrt, make_function<root>},
                                        StepRow{OpKind::kFakeQuantize, make_fake_quantize}};
  return kSteps;
}

}  // namespace cimq::runtime
