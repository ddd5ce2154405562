#include "ops/fake_quantized_conv2d.h"

#include <torch/library.h>

#include <limits>
#include <vector>

#include "ops/support/checks.h"
#include "ops/support/dispatch.h"

namespace cimq::ops {
namespace {

constexpr const char* kForward = "fake_quantized_conv2d";
constexpr const char* kBackward = "fake_quantized_conv2d_backward";

}  // namespace

at::Tensor fake_quantized_conv2d(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                 const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                                 at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                                 std::int64_t groups, double grad_scale, std::optional<at::ScalarType> dtype,
                                 std::optional<at::MemoryFormat> memory_format) {
  static const auto kOp = typed_op<decltype(fake_quantized_conv2d)>("cimq::fake_quantized_conv2d");
  return kOp.call(x, scale, qmin, qmax, w, w_scale, bias, stride, padding, dilation, groups, grad_scale, dtype,
                  memory_format);
}

Conv2dGradients fake_quantized_conv2d_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale,
                                               std::int64_t qmin, std::int64_t qmax, const at::Tensor& w,
                                               const at::Tensor& w_scale, at::IntArrayRef stride,
                                               at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups,
                                               double grad_scale, bool input, bool bias) {
  static const auto kOp = typed_op<decltype(fake_quantized_conv2d_backward)>("cimq::fake_quantized_conv2d_backward");
  return kOp.call(grad, x, scale, qmin, qmax, w, w_scale, stride, padding, dilation, groups, grad_scale, input, bias);
}

QuantizedConv check_fake_quantized_conv2d(QuantizerCheck& check, const char* op, const at::Tensor& x,
                                          const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                          const at::Tensor& w, const at::Tensor& w_scale, const ConvRequest& request) {
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, op,
                   ": x must be float32 or bfloat16, got ", describe(x));
  const ScaledRows rows = check(op, x, scale, qmin, qmax, std::nullopt, false);
  const std::int64_t shift = code_shift(qmin);
  TORCH_CHECK_VALUE(qmin + shift >= 0 && qmax + shift <= kMaxConvCode, op,
                    ": qmin and qmax must be within 0 and 255, or within -128 and 127, got qmin=", qmin,
                    " qmax=", qmax);
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
  const std::int64_t largest = products * (kMaxConvCode + shift) * kMaxConvWeight;
  TORCH_CHECK_VALUE(largest <= std::numeric_limits<std::int32_t>::max(), op, ": sums of ", products,
                    " products do not fit 32 bits, got w ", w.sizes());
  return {rows, g, g.out_h(x.size(2)), g.out_w(x.size(3))};
}

ConvResult check_conv_result(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                             std::optional<at::ScalarType> dtype, std::optional<at::MemoryFormat> memory_format) {
  const at::ScalarType type = dtype.value_or(x.scalar_type());
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kBFloat16, kForward, ": dtype must be float32 or bfloat16, got ",
                   c10::toString(type));
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  const bool last = x.suggest_memory_format() == kLast || w.suggest_memory_format() == kLast;
  const at::MemoryFormat format = memory_format.value_or(last ? kLast : at::MemoryFormat::Contiguous);
  TORCH_CHECK_VALUE(format == kLast || format == at::MemoryFormat::Contiguous, kForward,
                    ": memory_format must be torch.contiguous_format or torch.channels_last, got ", format);
  if (const at::Tensor added = bias.value_or(at::Tensor()); added.defined()) {
    TORCH_CHECK_VALUE(added.scalar_type() == at::kFloat && added.dim() == 1 && added.size(0) == w.size(0), kForward,
                      ": bias must be float32 [", w.size(0), "], got ", describe(added));
  }
  return {type, format};
}

void check_conv_gradient(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& w, const QuantizedConv& conv) {
  const std::vector<std::int64_t> outputs{x.size(0), w.size(0), conv.out_h, conv.out_w};
  TORCH_CHECK_VALUE(grad.sizes() == at::IntArrayRef(outputs), kBackward, ": grad must have shape ",
                    at::IntArrayRef(outputs), ", got ", grad.sizes());
  TORCH_CHECK_TYPE(grad.scalar_type() == at::kFloat || grad.scalar_type() == at::kBFloat16, kBackward,
                   ": grad must be float32 or bfloat16, got ", describe(grad));
}

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
