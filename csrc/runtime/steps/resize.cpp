// adaptive_avg_pool2d, adaptive_max_pool2d, mean, resize_nearest, resize_bilinear: the kernels that evaluation uses
// too.
#include "kernels/resize.h"

#include <array>
#include <utility>

#include "kernels/pooling.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::OpKind;
using compiler::Shape;

class AdaptivePoolStep final : public Step {
 public:
  AdaptivePoolStep(bool maximum, Shape in, const std::array<std::int64_t, 2>& size)
      : maximum_(maximum), in_(std::move(in)), size_(size) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const auto pool = maximum_ ? kernels::cpu::adaptive_max_pool2d : kernels::cpu::adaptive_avg_pool2d;
    pool(inputs[0], batch, in_[0], in_[1], in_[2], size_[0], size_[1], out);
  }

 private:
  bool maximum_;
  Shape in_;
  std::array<std::int64_t, 2> size_;
};

class ResizeStep final : public Step {
 public:
  ResizeStep(const kernels::Resize2d& resize, Shape in) : resize_(resize), in_(std::move(in)) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    kernels::cpu::resize2d(inputs[0], batch, in_[0], in_[1], in_[2], resize_, out);
  }

 private:
  kernels::Resize2d resize_;
  Shape in_;
};

class MeanStep final : public Step {
 public:
  MeanStep(const Shape& in, Shape dims) : shape_(in), dims_(std::move(dims)) {
    shape_.insert(shape_.begin(), 0);
    for (std::int64_t& dim : dims_) ++dim;
  }

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    Shape shape = shape_;
    shape[0] = batch;
    kernels::cpu::mean(inputs[0], shape, dims_, out);
  }

 private:
  Shape shape_, dims_;  // with the batch
};

std::unique_ptr<Step> make_adaptive_pool(const StepContext& context, const Node& node) {
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  return std::make_unique<AdaptivePoolStep>(node.op == OpKind::kAdaptiveMaxPool2d, in, node.size);
}

std::unique_ptr<Step> make_resize(const StepContext& context, const Node& node) {
  const bool nearest = node.op == OpKind::kResizeNearest;
  const kernels::Resize2d resize{nearest ? kernels::ResizeMode::kNearest : kernels::ResizeMode::kBilinear,
                                 node.size[0],
                                 node.size[1],
                                 node.row_step,
                                 node.column_step,
                                 node.align_corners};
  return std::make_unique<ResizeStep>(resize, context.graph.shape_of(node.inputs[0]));
}

std::unique_ptr<Step> make_mean(const StepContext& context, const Node& node) {
  return std::make_unique<MeanStep>(context.graph.shape_of(node.inputs[0]), node.axes);
}

}  // namespace

std::span<const StepRow> resize_steps() {
  static constexpr std::array kSteps = {StepRow{OpKind::kAdaptiveAvgPool2d, make_adaptive_pool},
                                        StepRow{OpKind::kAdaptiveMaxPool2d, make_adaptive_pool},
                                        StepRow{OpKind::kMean, make_mean}, StepRow{OpKind::kResizeNearest, make_resize},
                                        StepRow{OpKind::kResizeBilinear, make_resize}};
  return kSteps;
}

}  // namespace cimq::runtime
