// crossbar_conv2d of images in channel-last order, and which nodes have such a step.
#include "runtime/steps/channels_last.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/frontends/strict_json.h"
#include "kernels/cpu/mvm/channels_last_conv2d.h"
#include "runtime/steps/crossbar_tensors.h"
#include "runtime/steps/crossbar_work.h"
#include "runtime/steps/geometry.h"
#include "runtime/steps/quantizer.h"
#include "runtime/steps/rescale.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::OpKind;
using compiler::Shape;

/// Quantise, multiply, re-scale. An image's positions are the rows of one matrix.
class ConvStep final : public Step {
 public:
  ConvStep(kernels::cpu::ChannelsLastConv2d conv, Quantizer quantizer, Rescale rescale, const Shape& in,
           const Shape& out, std::uint8_t border)
      : conv_(std::move(conv)),
        quantizer_(std::move(quantizer)),
        rescale_(std::move(rescale)),
        in_elements_(compiler::elements(in)),
        height_(in[1]),
        width_(in[2]),
        channels_(out[0]),
        rows_(out[1]),
        positions_(out[1] * out[2]),
        border_(border) {}

  std::uint64_t working_bytes(std::int64_t batch, int threads) const override {
    const std::uint64_t operands = saturating_product(
        static_cast<std::uint64_t>(batch), in_elements_ + channels_ * positions_ * std::int64_t{sizeof(std::int32_t)});
    const std::uint64_t scratch =
        saturating_product(static_cast<std::uint64_t>(threads),
                           conv_.scratch_bytes(height_, width_, rows_of_part(batch * rows_, threads)));
    return saturating_sum(operands, scratch);
  }

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult* raw,
           const StepRun& run) const override {
    const std::vector<std::uint8_t> x = quantizer_(inputs[0], batch * in_elements_);
    const auto y =
        std::make_unique_for_overwrite<std::int32_t[]>(static_cast<std::size_t>(batch * positions_ * channels_));
    split(batch * rows_, run.threads, [&](std::int64_t begin, std::int64_t end) {
      conv_.run_rows(x.data(), height_, width_, begin, end, y.get(), border_);
    });
    if (raw != nullptr) give(y.get(), batch, *raw);
    rescale_(y.get(), batch * positions_, 1, out);
  }

 private:
  /// With channels first, as everybody outside of the executor has it.
  void give(const std::int32_t* y, std::int64_t batch, const RawResult& raw) const {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t c = 0; c < channels_; ++c) {
        for (std::int64_t p = 0; p < positions_; ++p) {
          const std::int64_t to = (b * channels_ + c) * positions_ + p;
          const std::int32_t value = y[(b * positions_ + p) * channels_ + c];
          if (raw.integers != nullptr) raw.integers[to] = value;
          if (raw.floats != nullptr) raw.floats[to] = static_cast<float>(value);
        }
      }
    }
  }

  kernels::cpu::ChannelsLastConv2d conv_;
  Quantizer quantizer_;
  Rescale rescale_;
  std::int64_t in_elements_, height_, width_, channels_, rows_, positions_;
  std::uint8_t border_;  // the integer of the number 0
};

std::unique_ptr<Step> make_conv(const StepContext& context, const Node& node) {
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  CrossbarTensors tensors = read_crossbar_tensors(context, node);
  const int zero = compiler::crossbar_of(node).act_zero;
  Quantizer quantizer(node.name, tensors.x_scale, compiler::crossbar_of(node));
  try {
    const Hardware hardware = compiler::hardware_of(context.hardware, compiler::crossbar_of(node));
    count_layer(context, node, hardware,
                kernels::make_mvm_plan(hardware, tensors.outputs, compiler::crossbar_of(node).inputs_per_output,
                                       tensors.options),
                1);
    Rescale rescale(zero, tensors.weight, std::move(tensors.multiplier), std::move(tensors.bias));
    const kernels::Conv2dGeometry geometry = geometry_of(node, in[0]);
    kernels::cpu::ChannelsLastConv2d conv({hardware, tensors.weight.data(), geometry, tensors.options});
    return std::make_unique<ConvStep>(std::move(conv), std::move(quantizer), std::move(rescale), in, node.shape,
                                      static_cast<std::uint8_t>(-zero));
  } catch (const Error& error) {
    throw Error(message("node '", compiler::shown(node.name), "': ", error.what()));
  }
}

}  // namespace

bool has_channels_last_step(const Hardware& network, const Node& node) {
  if (node.op == OpKind::kMaxPool2d) return true;
  return node.op == OpKind::kCrossbarConv2d && node.window.groups == 1 && !node.tensors.contains("adc_lsb") &&
         kernels::always_lossless(compiler::hardware_of(network, compiler::crossbar_of(node)));
}

std::unique_ptr<Step> make_channels_last_step(const StepContext& context, const Node& node) {
  if (node.op == OpKind::kCrossbarConv2d) return make_conv(context, node);
  return make_channels_last_max_pool(context, node);
}

}  // namespace cimq::runtime
