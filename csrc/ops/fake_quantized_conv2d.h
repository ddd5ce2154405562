// cimq::fake_quantized_conv2d, its backward and their autograd: conv2d(fake_quantize(x), w) for training, whose forward
// multiplies the integers. oneDNN's convolutions of bytes take a quarter to a half of the time of those of float32, and
// their sums are exact, or cimq's own kernels take their place (proof.h). Nothing but x is kept for the backward pass,
// which finds the integers again.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "ops/support/conv_args.h"
#include "ops/support/quantizer_args.h"

namespace cimq::ops {

/// Of x, scale, w and bias; one that was not wanted is an empty tensor.
using Conv2dGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// Call the operators.
at::Tensor fake_quantized_conv2d(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                 const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                                 at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                                 std::int64_t groups, double grad_scale, std::optional<at::ScalarType> dtype,
                                 std::optional<at::MemoryFormat> memory_format);

Conv2dGradients fake_quantized_conv2d_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale,
                                               std::int64_t qmin, std::int64_t qmax, const at::Tensor& w,
                                               const at::Tensor& w_scale, at::IntArrayRef stride,
                                               at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups,
                                               double grad_scale, bool input, bool bias);

constexpr std::int64_t kMaxConvCode = 255;
constexpr std::int64_t kMaxConvWeight = 127;

/// What is added to the integers of x, so that those with a sign become bytes without one.
constexpr std::int64_t code_shift(std::int64_t qmin) { return qmin < 0 ? 128 : 0; }

struct QuantizedConv {
  ScaledRows rows;
  kernels::Conv2dGeometry geometry;
  std::int64_t out_h;
  std::int64_t out_w;
};

/// Refuses operands of `op`, the forward or the backward, that no device takes, and what `check` does: check_quantizer,
/// or check_quantizer_shapes where the values of `scale` are not to be read.
QuantizedConv check_fake_quantized_conv2d(QuantizerCheck& check, const char* op, const at::Tensor& x,
                                          const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                          const at::Tensor& w, const at::Tensor& w_scale, const ConvRequest& request);

/// What the forward gives.
struct ConvResult {
  at::ScalarType type;
  at::MemoryFormat format;  ///< that of torch's convolutions where none was asked for
};

/// Refuses a bias and forms of the result that no device takes.
ConvResult check_conv_result(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                             std::optional<at::ScalarType> dtype, std::optional<at::MemoryFormat> memory_format);

/// Refuses gradients that are none of the forward's result.
void check_conv_gradient(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& w, const QuantizedConv& conv);

}  // namespace cimq::ops
