// max_pool2d, avg_pool2d.
#include "kernels/pooling.h"

#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::Shape;
using compiler::Window;

class AvgPoolStep final : public Step {
 public:
  AvgPoolStep(const Window& window, Shape in) : window_(window), in_(std::move(in)) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const kernels::Pool2d pool{.kernel_h = window_.kernel[0],
                               .kernel_w = window_.kernel[1],
                               .stride_h = window_.stride[0],
                               .stride_w = window_.stride[1],
                               .pad_h = window_.pad_top,
                               .pad_w = window_.pad_left,
                               .ceil_mode = window_.ceil_mode,
                               .count_include_pad = window_.count_include_pad,
                               .divisor = window_.divisor};
    kernels::cpu::avg_pool2d(inputs[0], batch, in_[0], in_[1], in_[2], pool, out);
  }

 private:
  Window window_;
  Shape in_;
};

class MaxPoolStep final : public Step {
 public:
  MaxPoolStep(const Window& window, Shape in, Shape out) : window_(window), in_(std::move(in)), out_(std::move(out)) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const float* plane = inputs[0];
    for (std::int64_t p = 0; p < batch * in_[0]; ++p, plane += in_[1] * in_[2]) {
      for (std::int64_t oy = 0; oy < out_[1]; ++oy) {
        for (std::int64_t ox = 0; ox < out_[2]; ++ox) *out++ = window_max(plane, oy, ox);
      }
    }
  }

 private:
  float window_max(const float* plane, std::int64_t oy, std::int64_t ox) const {
    float best = -std::numeric_limits<float>::infinity();
    for (std::int64_t ky = 0; ky < window_.kernel[0]; ++ky) {
      const std::int64_t y = oy * window_.stride[0] - window_.pad_top + ky * window_.dilation[0];
      if (y < 0 || y >= in_[1]) continue;
      for (std::int64_t kx = 0; kx < window_.kernel[1]; ++kx) {
        const std::int64_t x = ox * window_.stride[1] - window_.pad_left + kx * window_.dilation[1];
        if (x < 0 || x >= in_[2]) continue;
        const float value = plane[y * in_[2] + x];
        if (value > best || std::isnan(value)) best = value;  // NaN wins, as in PyTorch
      }
    }
    return best;
  }

  Window window_;
  Shape in_, out_;
};

std::unique_ptr<Step> make_max_pool(const StepContext& context, const Node& node) {
  return std::make_unique<MaxPoolStep>(node.window, context.graph.shape_of(node.inputs[0]), node.shape);
}

std::unique_ptr<Step> make_avg_pool(const StepContext& context, const Node& node) {
  return std::make_unique<AvgPoolStep>(node.window, context.graph.shape_of(node.inputs[0]));
}

}  // namespace

std::span<const StepRow> pooling_steps() {
  static constexpr std::array kSteps = {StepRow{compiler::OpKind::kMaxPool2d, make_max_pool},
                                        StepRow{compiler::OpKind::kAvgPool2d, make_avg_pool}};
  return kSteps;
}

}  // namespace cimq::runtime
