// On the CPU the operator is there for oneDNN's convolutions of bytes, which take a fraction of the time of floats
// (ops/fake_quantized_conv2d.h). A CUDA device has no such library behind torch, but cimq's own products of integers,
// with which the forward is what it is on the CPU: exact sums, scaled. Training of cimq.prepare does not call it there;
// it multiplies the fake-quantised values as floats. The backward is made of fake_quantize's and of convolution's own
// gradients, on which the CPU's only saves passes over memory.
#include "ops/fake_quantized_conv2d.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "ops/cuda/integer_call.h"
#include "ops/fake_quantize.h"

namespace cimq::ops {
namespace {

constexpr const char* kForward = "fake_quantized_conv2d";
constexpr const char* kBackward = "fake_quantized_conv2d_backward";

void check_operands(const char* op, const at::Tensor& x, const at::Tensor& scale, const at::Tensor& w,
                    const at::Tensor& w_scale) {
  check_cuda(op, "x", x, x);
  check_cuda(op, "scale", scale, x);
  check_cuda(op, "w", w, x);
  check_cuda(op, "w_scale", w_scale, x);
}

/// The integers of x as float32, but for the rounding of (q * scale) / scale; NaN where x or the scale is.
at::Tensor levels_of(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax) {
  return fake_quantize(x.to(at::kFloat), scale, qmin, qmax, std::nullopt, std::nullopt, false).div(scale.reshape({}));
}

/// Those of a weight on its grid. Not clipped: an infinite weight must show.
at::Tensor weight_levels(const at::Tensor& w, const at::Tensor& w_scale) {
  return w.div(w_scale.reshape({-1, 1, 1, 1})).round_();
}

at::Tensor forward_cuda(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                        const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                        at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups,
                        double /*grad_scale*/, std::optional<at::ScalarType> dtype,
                        std::optional<at::MemoryFormat> memory_format) {
  check_operands(kForward, x, scale, w, w_scale);
  const ConvRequest request{stride, padding, dilation, groups};
  const QuantizedConv conv =
      check_fake_quantized_conv2d(check_quantizer_shapes, kForward, x, scale, qmin, qmax, w, w_scale, request);
  const ConvResult result = check_conv_result(x, w, bias, dtype, memory_format);
  if (given(bias)) check_cuda(kForward, "bias", *bias, x);
  const DeviceCall call(x);
  at::Tensor y =
      at::empty({x.size(0), w.size(0), conv.out_h, conv.out_w}, x.options().dtype(at::kFloat), result.format);
  kernels::cuda::IntegerShape shape;
  shape.geometry = conv.geometry;
  shape.batch = x.size(0);
  shape.h = x.size(2);
  shape.w = x.size(3);
  shape.channels_last = result.format == at::MemoryFormat::ChannelsLast;
  integer_product(kForward, call, shape, levels_of(x, scale, qmin, qmax), weight_levels(w, w_scale),
                  {{qmin, qmax}, {-kMaxConvWeight, kMaxConvWeight}}, y);
  // One rounding of the sum, one of each factor, one of the bias, as where the CPU multiplies by its own kernels.
  y.mul_(w_scale.mul(scale.reshape({})).reshape({-1, 1, 1}));
  if (given(bias)) y.add_(bias->reshape({-1, 1, 1}));
  return y.to(result.type);
}

Conv2dGradients backward_cuda(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                              std::int64_t qmax, const at::Tensor& w, const at::Tensor& w_scale, at::IntArrayRef stride,
                              at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups, double grad_scale,
                              bool input, bool bias) {
  check_operands(kBackward, x, scale, w, w_scale);
  check_cuda(kBackward, "grad", grad, x);
  const ConvRequest request{stride, padding, dilation, groups};
  const QuantizedConv conv =
      check_fake_quantized_conv2d(check_quantizer_shapes, kBackward, x, scale, qmin, qmax, w, w_scale, request);
  check_conv_gradient(grad, x, w, conv);
  const DeviceCall call(x);
  const auto type = grad.scalar_type();
  const at::Tensor levels = levels_of(x, scale, qmin, qmax).to(type);
  const ConvGradients found = conv_gradients(grad, levels, w.to(type), request, {true, true, bias});
  const auto [dx, dscale] =
      fake_quantize_backward(found.x.to(x.scalar_type()), x, scale, qmin, qmax, std::nullopt, grad_scale, false);
  const at::Tensor dw = found.w.to(w.scalar_type()).mul(scale.reshape({}));
  return {input ? dx : at::empty({0}, x.options()), dscale, dw,
          bias ? found.bias.to(at::kFloat) : at::empty({0}, w.options())};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  m.impl("fake_quantized_conv2d", TORCH_FN(cimq::ops::forward_cuda));
  m.impl("fake_quantized_conv2d_backward", TORCH_FN(cimq::ops::backward_cuda));
}
