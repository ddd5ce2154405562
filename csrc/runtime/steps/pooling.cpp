// max_pool2d, avg_pool2d.
#include "kernels/pooling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/steps/channels_last.h"
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

/// Images whose channels lie side by side; with channels first every channel is an image of its own.
class MaxPoolStep final : public Step {
 public:
  MaxPoolStep(const Window& window, std::int64_t images, std::int64_t channels, const Shape& in, const Shape& out)
      : window_(window),
        images_(images),
        channels_(channels),
        height_(in[1]),
        width_(in[2]),
        out_height_(out[1]),
        out_width_(out[2]) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    const float* image = inputs[0];
    for (std::int64_t i = 0; i < batch * images_; ++i, image += height_ * width_ * channels_) {
      for (std::int64_t oy = 0; oy < out_height_; ++oy) {
        for (std::int64_t ox = 0; ox < out_width_; ++ox, out += channels_) take_window(image, oy, ox, out);
      }
    }
  }

 private:
  void take_window(const float* image, std::int64_t oy, std::int64_t ox, float* best) const {
    std::fill_n(best, channels_, -std::numeric_limits<float>::infinity());
    for (std::int64_t ky = 0; ky < window_.kernel[0]; ++ky) {
      const std::int64_t y = oy * window_.stride[0] - window_.pad_top + ky * window_.dilation[0];
      if (y < 0 || y >= height_) continue;
      for (std::int64_t kx = 0; kx < window_.kernel[1]; ++kx) {
        const std::int64_t x = ox * window_.stride[1] - window_.pad_left + kx * window_.dilation[1];
        if (x < 0 || x >= width_) continue;
        const float* const value = image + (y * width_ + x) * channels_;
        for (std::int64_t c = 0; c < channels_; ++c) {
          best[c] = value[c] > best[c] || std::isnan(value[c]) ? value[c] : best[c];  // NaN wins, as in PyTorch
        }
      }
    }
  }

  Window window_;
  std::int64_t images_, channels_, height_, width_, out_height_, out_width_;
};

std::unique_ptr<Step> make_max_pool(const StepContext& context, const Node& node) {
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  return std::make_unique<MaxPoolStep>(node.window, in[0], 1, in, node.shape);
}

std::unique_ptr<Step> make_avg_pool(const StepContext& context, const Node& node) {
  return std::make_unique<AvgPoolStep>(node.window, context.graph.shape_of(node.inputs[0]));
}

}  // namespace

std::unique_ptr<Step> make_channels_last_max_pool(const StepContext& context, const Node& node) {
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  return std::make_unique<MaxPoolStep>(node.window, 1, in[0], in, node.shape);
}

std::span<const StepRow> pooling_steps() {
  static constexpr std::array kSteps = {StepRow{compiler::OpKind::kMaxPool2d, make_max_pool},
                                        StepRow{compiler::OpKind::kAvgPool2d, make_avg_pool}};
  return kSteps;
}

}  // namespace cimq::runtime
