// softmax, log_softmax, layer_norm, group_norm.
#include "kernels/normalization.h"

#include <array>
#include <cstddef>
#include <utility>

#include "kernels/softmax.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::OpKind;
using compiler::Shape;

/// Elements of the dimensions [begin, end).
std::int64_t elements_between(const Shape& shape, std::size_t begin, std::size_t end) {
  std::int64_t count = 1;
  for (std::size_t i = begin; i < end; ++i) count *= shape[i];
  return count;
}

class SoftmaxStep final : public Step {
 public:
  SoftmaxStep(const Shape& shape, std::size_t dim, bool logarithm)
      : outer_(elements_between(shape, 0, dim)),
        n_(shape[dim]),
        inner_(elements_between(shape, dim + 1, shape.size())),
        logarithm_(logarithm) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    kernels::cpu::softmax(inputs[0], batch * outer_, n_, inner_, logarithm_, out);
  }

 private:
  std::int64_t outer_, n_, inner_;
  bool logarithm_;
};

/// Scale and shift, which a normalisation may do without.
struct Parameters {
  std::vector<float> weight, bias;
  const float* weight_or_null() const { return weight.empty() ? nullptr : weight.data(); }
  const float* bias_or_null() const { return bias.empty() ? nullptr : bias.data(); }
};

Parameters parameters_of(const StepContext& context, const Node& node, const Shape& shape) {
  Parameters parameters;
  if (node.tensors.contains("weight")) parameters.weight = tensor_of<float>(context, node, "weight", shape);
  if (node.tensors.contains("bias")) parameters.bias = tensor_of<float>(context, node, "bias", shape);
  return parameters;
}

class LayerNormStep final : public Step {
 public:
  LayerNormStep(Parameters parameters, std::int64_t rows, std::int64_t n, double eps)
      : parameters_(std::move(parameters)), rows_(rows), n_(n), eps_(eps) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    kernels::cpu::layer_norm(inputs[0], batch * rows_, n_, parameters_.weight_or_null(), parameters_.bias_or_null(),
                             eps_, out);
  }

 private:
  Parameters parameters_;
  std::int64_t rows_, n_;
  double eps_;
};

class GroupNormStep final : public Step {
 public:
  GroupNormStep(Parameters parameters, std::int64_t channels, std::int64_t inner, std::int64_t groups, double eps)
      : parameters_(std::move(parameters)), channels_(channels), inner_(inner), groups_(groups), eps_(eps) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    kernels::cpu::group_norm(inputs[0], batch, channels_, inner_, groups_, parameters_.weight_or_null(),
                             parameters_.bias_or_null(), eps_, out);
  }

 private:
  Parameters parameters_;
  std::int64_t channels_, inner_, groups_;
  double eps_;
};

std::unique_ptr<Step> make_softmax(const StepContext&, const Node& node) {
  return std::make_unique<SoftmaxStep>(node.shape, static_cast<std::size_t>(node.dim), node.op == OpKind::kLogSoftmax);
}

std::unique_ptr<Step> make_layer_norm(const StepContext& context, const Node& node) {
  const std::size_t first = node.shape.size() - static_cast<std::size_t>(node.dims);
  const Shape normalised(node.shape.begin() + static_cast<std::ptrdiff_t>(first), node.shape.end());
  return std::make_unique<LayerNormStep>(parameters_of(context, node, normalised),
                                         elements_between(node.shape, 0, first), compiler::elements(normalised),
                                         node.eps);
}

std::unique_ptr<Step> make_group_norm(const StepContext& context, const Node& node) {
  const std::int64_t channels = node.shape[0];
  return std::make_unique<GroupNormStep>(parameters_of(context, node, {channels}), channels,
                                         compiler::elements(node.shape) / channels, node.groups, node.eps);
}

}  // namespace

std::span<const StepRow> normalization_steps() {
  static constexpr std::array kSteps = {
      StepRow{OpKind::kSoftmax, make_softmax}, StepRow{OpKind::kLogSoftmax, make_softmax},
      StepRow{OpKind::kLayerNorm, make_layer_norm}, StepRow{OpKind::kGroupNorm, make_group_norm}};
  return kSteps;
}

}  // namespace cimq::runtime
