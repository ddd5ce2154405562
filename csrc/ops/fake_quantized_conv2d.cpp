// cimq::fake_quantized_conv2d, its backward and their autograd: conv2d(fake_quantize(x), w) for training, whose forward
// multiplies the integers. oneDNN's convolutions of bytes take a quarter to a half of the time of those of float32, and
// their sums are exact, or cimq's own kernels take their place (proof.h). Nothing but x is kept for the backward pass,
// which finds the integers again.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "ops/support/checks.h"
#include "ops/support/conv_args.h"
#include "ops/support/image_order.h"
#include "ops/support/onednn_conv2d.h"
#include "ops/support/quantizer_gradients.h"
#include "ops/support/scratch.h"

namespace cimq::ops {
namespace {

constexpr const char* kForward = "fake_quantized_conv2d";
constexpr const char* kBackward = "fake_quantized_conv2d_backward";
constexpr std::int64_t kMaxCode = 255;
constexpr std::int64_t kMaxWeight = 127;

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// What is added to the integers of x, so that those with a sign become bytes without one.
std::int64_t shift_of(std::int64_t qmin) { return qmin < 0 ? 128 : 0; }

struct Checked {
  ScaledRows rows;
  std::int64_t out_h;
  std::int64_t out_w;
};

Checked check_operands(const char* op, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                       std::int64_t qmax, const at::Tensor& w, const at::Tensor& w_scale, const ConvRequest& request) {
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, op,
                   ": x must be float32 or bfloat16, got ", describe(x));
  const ScaledRows rows = check_quantizer(op, x, scale, qmin, qmax, std::nullopt, false);
  const std::int64_t shift = shift_of(qmin);
  TORCH_CHECK_VALUE(qmin + shift >= 0 && qmax + shift <= kMaxCode, op,
                    ": qmin and qmax must be within 0 and 255, or within -128 and 127, got qmin=", qmin,
                    " qmax=", qmax);
  check_cpu(op, "w", w);
  check_cpu(op, "w_scale", w_scale);
  TORCH_CHECK_TYPE(w.scalar_type() == at::kFloat && w_scale.scalar_type() == at::kFloat, op,
                   ": w and w_scale must be float32, got ", describe(w), " and ", describe(w_scale));
  const kernels::Conv2dGeometry g = parse_geometry(op, x, w, request);
  TORCH_CHECK_VALUE(g.pad_left == g.pad_right && g.pad_top == g.pad_bottom, op,
                    ": needs the same padding left and right, and at the top and at the bottom, got ", request.padding);
  // oneDNN (as of PyTorch 2.13) adds up wrong numbers for some shapes with one channel.
  TORCH_CHECK_VALUE(w.size(1) > 1, op, ": needs at least two input channels per group, got w ", w.sizes());
  TORCH_CHECK_VALUE(w_scale.dim() == 1 && w_scale.size(0) == w.size(0), op, ": w_scale must have shape [", w.size(0),
                    "], got ", w_scale.sizes());
  const std::int64_t products = w.size(1) * w.size(2) * w.size(3);
  const std::int64_t largest = products * (kMaxCode + shift) * kMaxWeight;
  TORCH_CHECK_VALUE(largest <= std::numeric_limits<std::int32_t>::max(), op, ": sums of ", products,
                    " products do not fit 32 bits, got w ", w.sizes());
  return {rows, g.out_h(x.size(2)), g.out_w(x.size(3))};
}

/// The integers of a weight on its grid. `finite` becomes false for NaN or infinity.
at::Tensor weight_codes(const at::Tensor& w, const at::Tensor& w_scale, std::atomic<bool>& finite) {
  const at::Tensor values = w.contiguous(w.suggest_memory_format());
  const at::Tensor scales = w_scale.contiguous();
  at::Tensor codes = at::empty_like(values, values.options().dtype(at::kChar));
  const std::int64_t inputs = values[0].numel();
  const kernels::QuantRange range{-static_cast<int>(kMaxWeight), static_cast<int>(kMaxWeight), false};
  for (std::int64_t o = 0; o < values.size(0); ++o) {
    const float scale = scales.const_data_ptr<float>()[o];
    TORCH_CHECK_VALUE(std::isfinite(scale) && scale > 0.0F, kForward, ": w_scale must be positive and finite, got ",
                      scale, " at index ", o);
    const bool all = kernels::cpu::quantize(values.const_data_ptr<float>() + o * inputs, inputs, scale, range,
                                            codes.mutable_data_ptr<std::int8_t>() + o * inputs);
    if (!all) finite = false;
  }
  return codes;
}

at::Tensor fake_quantize_of(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax) {
  static const auto kOp = c10::Dispatcher::singleton()
                              .findSchemaOrThrow("cimq::fake_quantize", "")
                              .typed<at::Tensor(const at::Tensor&, const at::Tensor&, std::int64_t, std::int64_t,
                                                std::optional<std::int64_t>, std::optional<double>, bool)>();
  return kOp.call(x, scale, qmin, qmax, std::nullopt, std::nullopt, false);
}

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                       const at::Tensor& w, const at::Tensor& w_scale, const OptionalTensor& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups,
                       double /*grad_scale*/, std::optional<at::ScalarType> dtype,
                       std::optional<at::MemoryFormat> memory_format) {
  const ConvRequest request{stride, padding, dilation, groups};
  const ScaledRows rows = check_operands(kForward, x, scale, qmin, qmax, w, w_scale, request).rows;
  const at::ScalarType type = dtype.value_or(x.scalar_type());
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kBFloat16, kForward, ": dtype must be float32 or bfloat16, got ",
                   c10::toString(type));
  const at::Tensor source = in_order(x, x.suggest_memory_format());
  // If none is asked for, the order of the output is that of torch's convolutions.
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  const bool last = x.suggest_memory_format() == kLast || w.suggest_memory_format() == kLast;
  const at::MemoryFormat format = memory_format.value_or(last ? kLast : at::MemoryFormat::Contiguous);
  TORCH_CHECK_VALUE(format == kLast || format == at::MemoryFormat::Contiguous, kForward,
                    ": memory_format must be torch.contiguous_format or torch.channels_last, got ", format);
  if (bias.has_value() && bias->defined()) {
    check_cpu(kForward, "bias", *bias);
    TORCH_CHECK_VALUE(bias->scalar_type() == at::kFloat && bias->dim() == 1 && bias->size(0) == w.size(0), kForward,
                      ": bias must be float32 [", w.size(0), "], got ", describe(*bias));
  }
  std::atomic<bool> finite = true;
  const at::Tensor w_codes = weight_codes(w, w_scale, finite);
  const auto range = quant_range(qmin, qmax, false);
  const float step = scale.item<float>();
  const auto shift = static_cast<int>(shift_of(qmin));
  at::Tensor codes;
  if (finite && x.numel() > 0) codes = codes_of(source, step, range, shift, rows, finite);
  if (!finite || x.numel() == 0) {
    // NaN must come out as NaN, so that a diverged training shows; bytes have none.
    const auto cast = [&](const at::Tensor& value) { return value.to(type); };
    const OptionalTensor added = bias.has_value() && bias->defined() ? OptionalTensor(cast(*bias)) : std::nullopt;
    const at::Tensor x_hat = at::constant_pad_nd(cast(fake_quantize_of(source, scale, qmin, qmax)), padding, 0);
    const std::vector<std::int64_t> none{0, 0};
    const at::Tensor y = at::convolution(x_hat, cast(w), added, stride, none, dilation, false, none, groups);
    return in_order(y, format);
  }
  return in_order(convolve_codes(kForward, codes, step, shift, w_codes, w_scale, bias, request, type), format);
}

Gradients backward_cpu(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                       std::int64_t qmax, const at::Tensor& w, const at::Tensor& w_scale, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups, double grad_scale,
                       bool input, bool bias) {
  const ConvRequest request{stride, padding, dilation, groups};
  const auto [rows, out_h, out_w] = check_operands(kBackward, x, scale, qmin, qmax, w, w_scale, request);
  const std::vector<std::int64_t> outputs{x.size(0), w.size(0), out_h, out_w};
  TORCH_CHECK_VALUE(grad.sizes() == at::IntArrayRef(outputs), kBackward, ": grad must have shape ",
                    at::IntArrayRef(outputs), ", got ", grad.sizes());
  TORCH_CHECK_TYPE(grad.scalar_type() == at::kFloat || grad.scalar_type() == at::kBFloat16, kBackward,
                   ": grad must be float32 or bfloat16, got ", describe(grad));
  // oneDNN is quickest in channels-last order, so much that it pays to reorder everything else around it.
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  const auto type = grad.scalar_type();
  const auto range = quant_range(qmin, qmax, false);
  const at::MemoryFormat format = x.suggest_memory_format();
  const at::Tensor source = in_order(x, input ? format : kLast);
  const at::Tensor weights = w.to(type).contiguous(kLast);
  const at::Tensor upstream = in_order(grad, kLast, scratch_images(Scratch::kGradient, grad.sizes(), type));
  const auto weight_gradients = [&](const at::Tensor& images, bool sums) {
    return conv_gradients(upstream, images.to(type), weights, request, {false, true, sums});
  };
  QuantizerGradients quantizer;
  ConvGradients others;
  // One pass gives the integers that the gradient of w needs, and the quantiser's own gradients.
  if (input) {
    // Only the shape and the order of the input matter to its gradient.
    const at::Tensor unread = scratch_images(Scratch::kLevels, x.sizes(), type);
    const at::Tensor gradient = conv_gradients(upstream, unread, weights, request, {true, false, false}).x;
    const at::Tensor dx_hat = in_order(gradient.to(source.scalar_type()), kLast);
    const at::Tensor levels = scratch_images(Scratch::kLevels, x.sizes(), source.scalar_type());  // ends `unread`
    quantizer = format == kLast ? quantizer_gradients(dx_hat, source, scale, rows, range, grad_scale,
                                                      GradientUse::kOverwrite, levels)
                                : quantizer_gradients_channels_last(dx_hat, source, scale, range, grad_scale, levels);
    others = weight_gradients(levels, bias);
  } else {
    // The scale needs <grad, conv2d(r, w)> = <w, gradient of w for the input r>, with r = d x_hat / d scale, which is
    // levels - x / scale where x is not clipped. For the few channels of an image that is far less than a gradient of
    // x_hat, which nobody asked for.
    // In float32, as their digits are those that bf16 lacks.
    const at::Tensor values = source.to(at::kFloat);
    const at::Tensor levels = scratch_images(Scratch::kLevels, x.sizes(), at::kFloat);
    at::Tensor residuals = quantizer_gradients(values, values, scale, rows, range, 1.0, GradientUse::kRead, levels).x;
    residuals = residuals.div_(scale.reshape({})).sub_(levels).neg_();
    others = weight_gradients(levels, bias);
    const at::Tensor along = weight_gradients(residuals, false).w;
    quantizer = {at::empty({0}, x.options()), along.mul(w).sum(at::kDouble).mul_(grad_scale).to(at::kFloat)};
    quantizer.scale = quantizer.scale.reshape(scale.sizes());
  }
  const at::Tensor dw = at::empty_like(w).copy_(others.w).mul_(scale.reshape({}));
  const at::Tensor dbias = bias ? others.bias.to(at::kFloat) : at::empty({0}, w.options());
  return {quantizer.x, quantizer.scale, dw, dbias};
}

at::Tensor call_forward(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                        const at::Tensor& w, const at::Tensor& w_scale, const OptionalTensor& bias,
                        at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups,
                        double grad_scale, std::optional<at::ScalarType> dtype,
                        std::optional<at::MemoryFormat> memory_format) {
  static const auto kOp =
      c10::Dispatcher::singleton().findSchemaOrThrow("cimq::fake_quantized_conv2d", "").typed<decltype(forward_cpu)>();
  return kOp.call(x, scale, qmin, qmax, w, w_scale, bias, stride, padding, dilation, groups, grad_scale, dtype,
                  memory_format);
}

Gradients call_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                        std::int64_t qmax, const at::Tensor& w, const at::Tensor& w_scale, at::IntArrayRef stride,
                        at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups, double grad_scale,
                        bool input, bool bias) {
  static const auto kOp = c10::Dispatcher::singleton()
                              .findSchemaOrThrow("cimq::fake_quantized_conv2d_backward", "")
                              .typed<decltype(backward_cpu)>();
  return kOp.call(grad, x, scale, qmin, qmax, w, w_scale, stride, padding, dilation, groups, grad_scale, input, bias);
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class FakeQuantizedConv2d : public torch::autograd::Function<FakeQuantizedConv2d> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& scale, std::int64_t qmin,
                          std::int64_t qmax, const Variable& w, const Variable& w_scale, const OptionalTensor& bias,
                          at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                          std::int64_t groups, double grad_scale, std::optional<at::ScalarType> dtype,
                          std::optional<at::MemoryFormat> memory_format) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, scale, w, w_scale});
    auto& data = ctx->saved_data;
    data["qmin"] = qmin;
    data["qmax"] = qmax;
    data["stride"] = stride.vec();
    data["padding"] = padding.vec();
    data["dilation"] = dilation.vec();
    data["groups"] = groups;
    data["grad_scale"] = grad_scale;
    data["bias"] = bias.has_value() && bias->defined();
    return call_forward(x, scale, qmin, qmax, w, w_scale, bias, stride, padding, dilation, groups, grad_scale, dtype,
                        memory_format);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const bool input = ctx->needs_input_grad(0);
    const bool bias = data["bias"].toBool();
    const auto [dx, dscale, dw, dbias] =
        call_backward(grads[0], saved[0], saved[1], data["qmin"].toInt(), data["qmax"].toInt(), saved[2], saved[3],
                      data["stride"].toIntVector(), data["padding"].toIntVector(), data["dilation"].toIntVector(),
                      data["groups"].toInt(), data["grad_scale"].toDouble(), input, bias);
    const Variable none;
    return {
        input ? dx : none, dscale, none, none, dw, none, bias ? dbias : none, none, none, none, none, none, none, none};
  }
};

class FakeQuantizedConv2dBackward : public torch::autograd::Function<FakeQuantizedConv2dBackward> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static variable_list forward(AutogradContext* /*ctx*/, const Variable& grad, const Variable& x, const Variable& scale,
                               std::int64_t qmin, std::int64_t qmax, const Variable& w, const Variable& w_scale,
                               at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                               std::int64_t groups, double grad_scale, bool input, bool bias) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto [dx, dscale, dw, dbias] = call_backward(grad, x, scale, qmin, qmax, w, w_scale, stride, padding,
                                                       dilation, groups, grad_scale, input, bias);
    return {dx, dscale, dw, dbias};
  }

  static variable_list backward(AutogradContext* /*ctx*/, const variable_list& /*grads*/) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, kForward,
                                ": second derivatives are not defined for a straight-through estimator");
  }
};

at::Tensor forward_autograd(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                            const at::Tensor& w, const at::Tensor& w_scale, const OptionalTensor& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                            std::int64_t groups, double grad_scale, std::optional<at::ScalarType> dtype,
                            std::optional<at::MemoryFormat> memory_format) {
  return FakeQuantizedConv2d::apply(x, scale, qmin, qmax, w, w_scale, bias, stride, padding, dilation, groups,
                                    grad_scale, dtype, memory_format);
}

Gradients backward_autograd(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                            std::int64_t qmax, const at::Tensor& w, const at::Tensor& w_scale, at::IntArrayRef stride,
                            at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups, double grad_scale,
                            bool input, bool bias) {
  auto result = FakeQuantizedConv2dBackward::apply(grad, x, scale, qmin, qmax, w, w_scale, stride, padding, dilation,
                                                   groups, grad_scale, input, bias);
  return {result[0], result[1], result[2], result[3]};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "fake_quantized_conv2d(Tensor x, Tensor scale, int qmin, int qmax, Tensor w, Tensor w_scale, Tensor? bias, "
      "int[] stride, int[] padding, int[] dilation, int groups, float grad_scale, ScalarType? dtype=None, "
      "MemoryFormat? memory_format=None) -> Tensor");
  m.def(
      "fake_quantized_conv2d_backward(Tensor grad, Tensor x, Tensor scale, int qmin, int qmax, Tensor w, "
      "Tensor w_scale, int[] stride, int[] padding, int[] dilation, int groups, float grad_scale, bool input, "
      "bool bias) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("fake_quantized_conv2d", TORCH_FN(cimq::ops::forward_cpu));
  m.impl("fake_quantized_conv2d_backward", TORCH_FN(cimq::ops::backward_cpu));
}

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("fake_quantized_conv2d", TORCH_FN(cimq::ops::forward_autograd));
  m.impl("fake_quantized_conv2d_backward", TORCH_FN(cimq::ops::backward_autograd));
}
