// conv2d_f32, linear_f32: layers that were left in float32. matmul: a product of two values.
#include "kernels/dense.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "common/saturating.h"
#include "runtime/parallel.h"
#include "runtime/steps/geometry.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::Shape;

struct Parameters {
  std::vector<float> weight, bias;
  const float* bias_or_null() const { return bias.empty() ? nullptr : bias.data(); }
};

class LinearStep final : public Step {
 public:
  LinearStep(Parameters parameters, std::int64_t rows, std::int64_t inputs, std::int64_t outputs)
      : parameters_(std::move(parameters)), rows_(rows), inputs_(inputs), outputs_(outputs) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    kernels::cpu::linear_f32(inputs[0], parameters_.weight.data(), parameters_.bias_or_null(), batch * rows_, inputs_,
                             outputs_, out);
  }

 private:
  Parameters parameters_;
  std::int64_t rows_, inputs_, outputs_;
};

class ConvStep final : public Step {
 public:
  ConvStep(Parameters parameters, const kernels::Conv2dGeometry& geometry, Shape in, std::int64_t out_elements)
      : parameters_(std::move(parameters)), geometry_(geometry), in_(std::move(in)), out_elements_(out_elements) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun& run) const override {
    parallel_for(batch, run.threads, [&](std::int64_t b) {
      kernels::cpu::conv2d_f32(inputs[0] + b * compiler::elements(in_), parameters_.weight.data(),
                               parameters_.bias_or_null(), geometry_, 1, in_[1], in_[2], out + b * out_elements_);
    });
  }

  /// Every thread sums up one row of results.
  std::uint64_t working_bytes(std::int64_t batch, int threads) const override {
    const std::int64_t at_once = std::min<std::int64_t>(batch, threads);
    return saturating_product(static_cast<std::uint64_t>(at_once), geometry_.out_w(in_[2]), sizeof(double));
  }

 private:
  Parameters parameters_;
  kernels::Conv2dGeometry geometry_;
  Shape in_;
  std::int64_t out_elements_;
};

class MatmulStep final : public Step {
 public:
  MatmulStep(std::int64_t matrices, std::int64_t rows, std::int64_t inner, std::int64_t columns)
      : matrices_(matrices), rows_(rows), inner_(inner), columns_(columns) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun& run) const override {
    parallel_for(batch, run.threads, [&](std::int64_t b) {
      kernels::cpu::matmul_f32(inputs[0] + b * matrices_ * rows_ * inner_,
                               inputs[1] + b * matrices_ * inner_ * columns_, matrices_, rows_, inner_, columns_,
                               out + b * matrices_ * rows_ * columns_);
    });
  }

 private:
  std::int64_t matrices_, rows_, inner_, columns_;  // of one sample
};

std::unique_ptr<Step> make_matmul(const StepContext& context, const Node& node) {
  const Shape& a = context.graph.shape_of(node.inputs[0]);
  const std::int64_t inner = a.back();
  const std::int64_t columns = node.shape.back();
  const std::int64_t rows = node.shape[node.shape.size() - 2];
  return std::make_unique<MatmulStep>(compiler::elements(node.shape) / (rows * columns), rows, inner, columns);
}

std::unique_ptr<Step> make_dense(const StepContext& context, const Node& node) {
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  const bool conv = compiler::is_conv(node.op);
  const std::int64_t outputs = conv ? node.shape[0] : node.shape.back();
  const compiler::Window& w = node.window;
  const Shape weight_shape =
      conv ? Shape{outputs, in[0] / w.groups, w.kernel[0], w.kernel[1]} : Shape{outputs, in.back()};
  Parameters parameters;
  parameters.weight = tensor_of<float>(context, node, "weight", weight_shape);
  if (node.tensors.contains("bias")) parameters.bias = tensor_of<float>(context, node, "bias", {outputs});
  if (conv) {
    return std::make_unique<ConvStep>(std::move(parameters), geometry_of(node, in[0]), in,
                                      compiler::elements(node.shape));
  }
  const std::int64_t inputs = in.back();
  return std::make_unique<LinearStep>(std::move(parameters), compiler::elements(in) / inputs, inputs, outputs);
}

}  // namespace

std::span<const StepRow> dense_steps() {
  static constexpr std::array kSteps = {StepRow{compiler::OpKind::kConv2dF32, make_dense},
                                        StepRow{compiler::OpKind::kLinearF32, make_dense},
                                        StepRow{compiler::OpKind::kMatmul, make_matmul}};
  return kSteps;
}

}  // namespace cimq::runtime
