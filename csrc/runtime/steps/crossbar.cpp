// crossbar_conv2d, crossbar_linear: quantise, multiply on the crossbars, re-scale.
// The layer's raw result is Y without the correction of a zero point, as docs/bundle.md says.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/frontends/strict_json.h"
#include "kernels/cpu/mvm/crossbar_conv2d.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "runtime/steps/crossbar_tensors.h"
#include "runtime/steps/crossbar_work.h"
#include "runtime/steps/geometry.h"
#include "runtime/steps/quantizer.h"
#include "runtime/steps/raw_result.h"
#include "runtime/steps/rescale.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::Shape;

/// What both kinds share: quantisation before, re-scaling after. `Kernel` runs the layer on raw bits.
template <typename Kernel>
class CrossbarStep final : public Step {
 public:
  CrossbarStep(Kernel kernel, Quantizer quantizer, Rescale rescale, std::int64_t in_elements, std::int64_t out_elements,
               std::int64_t inner)
      : kernel_(std::move(kernel)),
        quantizer_(std::move(quantizer)),
        rescale_(std::move(rescale)),
        in_elements_(in_elements),
        out_elements_(out_elements),
        inner_(inner) {}

  bool exact() const override { return kernel_.plan().gives_integers(); }

  /// The quantised input, the raw result, and what the kernel takes.
  std::uint64_t working_bytes(std::int64_t batch, int threads) const override {
    const std::uint64_t operands = saturating_product(static_cast<std::uint64_t>(batch),
                                                      in_elements_ + out_elements_ * std::int64_t{sizeof(float)});
    return saturating_sum(operands, kernel_.working_bytes(batch, threads));
  }

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult* raw,
           const StepRun& run) const override {
    const std::vector<std::uint8_t> x = quantizer_(inputs[0], batch * in_elements_);
    if (kernel_.plan().exact) {
      std::vector<std::int32_t> own;
      std::int32_t* y = destination(own, raw == nullptr ? nullptr : raw->integers, batch * out_elements_);
      run_as(x, batch, out, y, run);
      if (raw != nullptr && raw->floats != nullptr) std::copy_n(y, batch * out_elements_, raw->floats);
    } else {
      std::vector<float> own;
      run_as(x, batch, out, destination(own, raw == nullptr ? nullptr : raw->floats, batch * out_elements_), run);
    }
  }

 private:
  template <typename T>
  void run_as(const std::vector<std::uint8_t>& x, std::int64_t batch, float* out, T* y, const StepRun& run) const {
    kernel_.run(x.data(), batch, y, run);
    rescale_(y, batch * out_elements_ / (rescale_.outputs() * inner_), inner_, out);
  }

  Kernel kernel_;
  Quantizer quantizer_;
  Rescale rescale_;
  std::int64_t in_elements_, out_elements_;
  std::int64_t inner_;  // values per channel: OH * OW, or 1
};

struct LinearKernel {
  kernels::cpu::CrossbarMvm mvm;
  std::int64_t rows;  // vectors per sample

  const kernels::MvmPlan& plan() const { return mvm.plan(); }
  std::uint64_t working_bytes(std::int64_t batch, int threads) const {
    return saturating_product(static_cast<std::uint64_t>(threads),
                              mvm.scratch_bytes(rows_of_part(batch * rows, threads)));
  }
  template <typename T>
  void run(const std::uint8_t* x, std::int64_t batch, T* y, const StepRun& run) const {
    const std::int64_t inputs = mvm.plan().inputs;
    const std::int64_t outputs = mvm.plan().outputs;
    const std::int64_t first = run.first_sample * rows;
    split(batch * rows, run.threads, [&](std::int64_t begin, std::int64_t end) {
      mvm.run(x + begin * inputs, end - begin, y + begin * outputs, static_cast<std::uint64_t>(first + begin));
    });
  }
};

struct Border {
  std::int64_t top, bottom, left, right;
  std::uint8_t value;

  /// [planes, h - top - bottom, w - left - right] -> [planes, h, w].
  std::vector<std::uint8_t> around(const std::uint8_t* x, std::int64_t planes, std::int64_t h, std::int64_t w) const {
    std::vector<std::uint8_t> result(static_cast<std::size_t>(planes * h * w), value);
    const std::int64_t inner = w - left - right;
    for (std::int64_t p = 0; p < planes; ++p) {
      for (std::int64_t row = top; row < h - bottom; ++row, x += inner) {
        std::copy_n(x, inner, result.begin() + (p * h + row) * w + left);
      }
    }
    return result;
  }
};

struct ConvKernel {
  kernels::cpu::CrossbarConv2d conv;
  std::int64_t height, width;  // of the image that `conv` gets
  /// With a zero point the number 0 is an integer other than 0: the border is filled with it, and `conv` pads nothing.
  std::optional<Border> border;

  const kernels::MvmPlan& plan() const { return conv.plan(); }
  std::uint64_t working_bytes(std::int64_t batch, int threads) const {
    const std::uint64_t bordered =
        border ? saturating_product(static_cast<std::uint64_t>(batch), conv.geometry().in_channels, height, width) : 0;
    const std::int64_t part = rows_of_part(batch * conv.geometry().out_h(height), threads);
    const std::uint64_t scratch =
        saturating_product(static_cast<std::uint64_t>(threads), conv.scratch_bytes(height, width, part));
    return saturating_sum(bordered, scratch);
  }
  template <typename T>
  void run(const std::uint8_t* x, std::int64_t batch, T* y, const StepRun& run) const {
    std::vector<std::uint8_t> padded;
    if (border) {
      padded = border->around(x, batch * conv.geometry().in_channels, height, width);
      x = padded.data();
    }
    const std::int64_t positions = conv.geometry().out_h(height) * conv.geometry().out_w(width);
    const auto first = static_cast<std::uint64_t>(run.first_sample * positions);
    split(batch * conv.geometry().out_h(height), run.threads,
          [&](std::int64_t begin, std::int64_t end) { conv.run_rows(x, height, width, begin, end, y, first); });
  }
};

}  // namespace

std::unique_ptr<Step> make_crossbar_step(const StepContext& context, const Node& node) {
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  const bool conv = compiler::is_conv(node.op);
  const compiler::Window& w = node.window;
  CrossbarTensors tensors = read_crossbar_tensors(context, node);
  const kernels::MvmOptions& options = tensors.options;
  Quantizer quantizer(node.name, tensors.x_scale, compiler::crossbar_of(node));
  const std::int64_t in_elements = compiler::elements(in);
  const std::int64_t out_elements = compiler::elements(node.shape);
  const std::int64_t groups = conv ? w.groups : 1;
  try {
    const Hardware hardware = compiler::hardware_of(context.hardware, compiler::crossbar_of(node));
    // Bounds first: this plan is that of the first group, and what the others need is the same.
    count_layer(context, node, hardware,
                kernels::make_mvm_plan(hardware, tensors.outputs / groups,
                                       compiler::crossbar_of(node).inputs_per_output, options),
                groups);
    const int zero = compiler::crossbar_of(node).act_zero;
    Rescale rescale(zero, tensors.weight, std::move(tensors.multiplier), std::move(tensors.bias));
    if (conv) {
      kernels::Conv2dGeometry geometry = geometry_of(node, in[0]);
      std::optional<Border> border;
      std::int64_t height = in[1];
      std::int64_t width = in[2];
      if (zero != 0) {
        border = Border{w.pad_top, w.pad_bottom, w.pad_left, w.pad_right, static_cast<std::uint8_t>(-zero)};
        height += w.pad_top + w.pad_bottom;
        width += w.pad_left + w.pad_right;
        geometry.pad_top = geometry.pad_bottom = geometry.pad_left = geometry.pad_right = 0;
      }
      ConvKernel kernel{kernels::cpu::CrossbarConv2d({hardware, tensors.weight.data(), geometry, options}), height,
                        width, border};
      return std::make_unique<CrossbarStep<ConvKernel>>(std::move(kernel), std::move(quantizer), std::move(rescale),
                                                        in_elements, out_elements, node.shape[1] * node.shape[2]);
    }
    LinearKernel kernel{
        kernels::cpu::CrossbarMvm({hardware, tensors.weight.data(), tensors.outputs, in.back(), options}),
        in_elements / in.back()};
    return std::make_unique<CrossbarStep<LinearKernel>>(std::move(kernel), std::move(quantizer), std::move(rescale),
                                                        in_elements, out_elements, 1);
  } catch (const Error& error) {
    throw Error(message("node '", compiler::shown(node.name), "': ", error.what()));
  }
}

}  // namespace cimq::runtime
