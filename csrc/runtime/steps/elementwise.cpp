// relu, clamp, add, mul, affine: one float32 rounding per operation, as PyTorch computes them; activation functions.
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

class MulStep final : public Step {
 public:
  MulStep(Shape out, const Shape& a, const Shape& b) : out_(std::move(out)), a_(strides_in(a)), b_(strides_in(b)) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const float* a = inputs[0];
    const float* b = inputs[1];
    for (std::int64_t i = 0; i < batch; ++i, a += a_.elements, b += b_.elements) out = multiply(0, a, b, out);
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

  float* multiply(std::size_t dim, const float* a, const float* b, float* out) const {
    if (dim == out_.size()) {
      *out = *a * *b;
      return out + 1;
    }
    for (std::int64_t i = 0; i < out_[dim]; ++i) {
      out = multiply(dim + 1, a + i * a_.strides[dim], b + i * b_.strides[dim], out);
    }
    return out;
  }

  Shape out_;
  Operand a_, b_;
};

class ActivationStep final : public Step {
 public:
  ActivationStep(kernels::Activation kind, std::int64_t elements) : kind_(kind), elements_(elements) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    kernels::activation(kind_, inputs[0], batch * elements_, out);
  }

 private:
  kernels::Activation kind_;
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

std::unique_ptr<Step> make_relu(const StepContext&, const Node& node) {
  return std::make_unique<ClampStep>(compiler::elements(node.shape), 0.0F, std::nullopt);
}

std::unique_ptr<Step> make_clamp(const StepContext&, const Node& node) {
  return std::make_unique<ClampStep>(compiler::elements(node.shape), node.clamp_min, node.clamp_max);
}

std::unique_ptr<Step> make_add(const StepContext&, const Node& node) {
  return std::make_unique<AddStep>(compiler::elements(node.shape));
}

std::unique_ptr<Step> make_mul(const StepContext& context, const Node& node) {
  return std::make_unique<MulStep>(node.shape, context.graph.shape_of(node.inputs[0]),
                                   context.graph.shape_of(node.inputs[1]));
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
  check(kind.has_value(), "node '", node.name, "': no activation function is called ", compiler::name_of(node.op));
  return std::make_unique<ActivationStep>(*kind, compiler::elements(node.shape));
}

}  // namespace

std::span<const StepRow> elementwise_steps() {
  static constexpr std::array kSteps = {StepRow{OpKind::kRelu, make_relu},
                                        StepRow{OpKind::kClamp, make_clamp},
                                        StepRow{OpKind::kAdd, make_add},
                                        StepRow{OpKind::kMul, make_mul},
                                        StepRow{OpKind::kAffine, make_affine},
                                        StepRow{OpKind::kSigmoid, make_activation},
                                        StepRow{OpKind::kSilu, make_activation},
                                        StepRow{OpKind::kHardsigmoid, make_activation},
                                        StepRow{OpKind::kHardswish, make_activation}};
  return kSteps;
}

}  // namespace cimq::runtime
