#include "ops/fake_quantized_conv2d.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using OptionalTensor = std::optional<at::Tensor>;

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
    data["bias"] = given(bias);
    return ops::fake_quantized_conv2d(x, scale, qmin, qmax, w, w_scale, bias, stride, padding, dilation, groups,
                                      grad_scale, dtype, memory_format);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const bool input = ctx->needs_input_grad(0);
    const bool bias = data["bias"].toBool();
    const auto [dx, dscale, dw, dbias] = fake_quantized_conv2d_backward(
        grads[0], saved[0], saved[1], data["qmin"].toInt(), data["qmax"].toInt(), saved[2], saved[3],
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
    const auto [dx, dscale, dw, dbias] = fake_quantized_conv2d_backward(
        grad, x, scale, qmin, qmax, w, w_scale, stride, padding, dilation, groups, grad_scale, input, bias);
    return {dx, dscale, dw, dbias};
  }

  static variable_list backward(AutogradContext* /*ctx*/, const variable_list& /*grads*/) {
    TORCH_CHECK_NOT_IMPLEMENTED(
        false, "fake_quantized_conv2d: second derivatives are not defined for a straight-through estimator");
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

Conv2dGradients backward_autograd(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale,
                                  std::int64_t qmin, std::int64_t qmax, const at::Tensor& w, const at::Tensor& w_scale,
                                  at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                                  std::int64_t groups, double grad_scale, bool input, bool bias) {
  auto result = FakeQuantizedConv2dBackward::apply(grad, x, scale, qmin, qmax, w, w_scale, stride, padding, dilation,
                                                   groups, grad_scale, input, bias);
  return {result[0], result[1], result[2], result[3]};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("fake_quantized_conv2d", TORCH_FN(cimq::ops::forward_autograd));
  m.impl("fake_quantized_conv2d_backward", TORCH_FN(cimq::ops::backward_autograd));
}
