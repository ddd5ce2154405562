#include "ops/dense.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using OptionalTensor = std::optional<at::Tensor>;

bool wants_gradient(const OptionalTensor& bias) {
  const Variable found = bias.value_or(Variable());
  return found.defined() && found.requires_grad();
}

/// [..., values] as [rows, values], also where one of them is 0, which a reshape to [-1, values] cannot tell.
at::Tensor as_rows(const at::Tensor& x) { return x.dim() == 1 ? x.unsqueeze(0) : x.flatten(0, -2); }

class LinearF32 : public torch::autograd::Function<LinearF32> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& w, const OptionalTensor& bias) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, w});
    ctx->saved_data["bias"] = wants_gradient(bias);
    return ops::linear_f32(x, w, bias);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Variable& w = saved[1];
    const Variable flat = as_rows(grads[0]);
    variable_list result(3);
    if (ctx->needs_input_grad(0)) result[0] = at::matmul(grads[0], w);
    if (ctx->needs_input_grad(1)) result[1] = at::mm(flat.t(), as_rows(saved[0]));
    if (ctx->saved_data["bias"].toBool()) result[2] = flat.sum(0);
    return result;
  }
};

class Conv2dF32 : public torch::autograd::Function<Conv2dF32> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& w, const OptionalTensor& bias,
                          at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                          std::int64_t groups) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, w});
    ctx->saved_data["bias"] = wants_gradient(bias);
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["dilation"] = dilation;
    ctx->saved_data["groups"] = groups;
    return ops::conv2d_f32(x, w, bias, stride, padding, dilation, groups);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const auto stride = data["stride"].toIntVector();
    const auto padding = data["padding"].toIntVector();
    const auto dilation = data["dilation"].toIntVector();
    const ConvGradients found =
        conv_gradients(grads[0], saved[0], saved[1], {stride, padding, dilation, data["groups"].toInt()},
                       {ctx->needs_input_grad(0), ctx->needs_input_grad(1), data["bias"].toBool()});
    variable_list result(7);
    if (ctx->needs_input_grad(0)) result[0] = found.x;
    if (ctx->needs_input_grad(1)) result[1] = found.w;
    if (data["bias"].toBool()) result[2] = found.bias;
    return result;
  }
};

at::Tensor linear_f32_autograd(const at::Tensor& x, const at::Tensor& w, const OptionalTensor& bias) {
  return LinearF32::apply(x, w, bias);
}

at::Tensor conv2d_f32_autograd(const at::Tensor& x, const at::Tensor& w, const OptionalTensor& bias,
                               at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                               std::int64_t groups) {
  return Conv2dF32::apply(x, w, bias, stride, padding, dilation, groups);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("linear_f32", TORCH_FN(cimq::ops::linear_f32_autograd));
  m.impl("conv2d_f32", TORCH_FN(cimq::ops::conv2d_f32_autograd));
}
