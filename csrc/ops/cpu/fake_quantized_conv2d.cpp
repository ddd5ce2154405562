#include "ops/fake_quantized_conv2d.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <atomic>
#include <cmath>
#include <vector>

#include "kernels/fake_quantize.h"
#include "ops/fake_quantize.h"
#include "ops/support/checks.h"
#include "ops/support/image_order.h"
#include "ops/support/onednn_conv2d.h"
#include "ops/support/quantizer_gradients.h"
#include "ops/support/scratch.h"

namespace cimq::ops {
namespace {

constexpr const char* kForward = "fake_quantized_conv2d";
constexpr const char* kBackward = "fake_quantized_conv2d_backward";

/// check_quantizer looks at the others.
void check_on_cpu(const char* op, const at::Tensor& w, const at::Tensor& w_scale) {
  check_cpu(op, "w", w);
  check_cpu(op, "w_scale", w_scale);
}

/// The integers of a weight on its grid. `finite` becomes false for NaN or infinity.
at::Tensor weight_codes(const at::Tensor& w, const at::Tensor& w_scale, std::atomic<bool>& finite) {
  const at::Tensor values = w.contiguous(w.suggest_memory_format());
  const at::Tensor scales = w_scale.contiguous();
  at::Tensor codes = at::empty_like(values, values.options().dtype(at::kChar));
  const std::int64_t inputs = values[0].numel();
  const kernels::QuantRange range{-static_cast<int>(kMaxConvWeight), static_cast<int>(kMaxConvWeight), false};
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

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                       const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups,
                       double /*grad_scale*/, std::optional<at::ScalarType> dtype,
                       std::optional<at::MemoryFormat> memory_format) {
  const ConvRequest request{stride, padding, dilation, groups};
  check_on_cpu(kForward, w, w_scale);
  const ScaledRows rows =
      check_fake_quantized_conv2d(check_quantizer, kForward, x, scale, qmin, qmax, w, w_scale, request).rows;
  const ConvResult result = check_conv_result(x, w, bias, dtype, memory_format);
  const at::ScalarType type = result.type;
  const at::Tensor source = in_order(x, x.suggest_memory_format());
  const at::Tensor added = bias.value_or(at::Tensor());
  if (added.defined()) check_cpu(kForward, "bias", added);
  std::atomic<bool> finite = true;
  const at::Tensor w_codes = weight_codes(w, w_scale, finite);
  const auto range = quant_range(qmin, qmax, false);
  const float step = scale.item<float>();
  const auto shift = static_cast<int>(code_shift(qmin));
  at::Tensor codes;
  if (finite && x.numel() > 0) codes = codes_of(source, step, range, shift, rows, finite);
  if (!finite || x.numel() == 0) {
    // NaN must come out as NaN, so that a diverged training shows; bytes have none.
    const auto cast = [&](const at::Tensor& value) { return value.to(type); };
    const auto offset = added.defined() ? std::optional(cast(added)) : std::nullopt;
    const at::Tensor x_hat = at::constant_pad_nd(
        cast(fake_quantize(source, scale, qmin, qmax, std::nullopt, std::nullopt, false)), padding, 0);
    const std::vector<std::int64_t> none{0, 0};
    const at::Tensor y = at::convolution(x_hat, cast(w), offset, stride, none, dilation, false, none, groups);
    return in_order(y, result.format);
  }
  return in_order(convolve_codes(kForward, codes, step, shift, w_codes, w_scale, bias, request, type), result.format);
}

Conv2dGradients backward_cpu(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                             std::int64_t qmax, const at::Tensor& w, const at::Tensor& w_scale, at::IntArrayRef stride,
                             at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups, double grad_scale,
                             bool input, bool bias) {
  const ConvRequest request{stride, padding, dilation, groups};
  check_on_cpu(kBackward, w, w_scale);
  const QuantizedConv conv =
      check_fake_quantized_conv2d(check_quantizer, kBackward, x, scale, qmin, qmax, w, w_scale, request);
  const ScaledRows& rows = conv.rows;
  check_conv_gradient(grad, x, w, conv);
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

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("fake_quantized_conv2d", TORCH_FN(cimq::ops::forward_cpu));
  m.impl("fake_quantized_conv2d_backward", TORCH_FN(cimq::ops::backward_cpu));
}
