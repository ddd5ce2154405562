#include "ops/normalization.h"

#include <ATen/ops/native_group_norm.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using OptionalTensor = std::optional<at::Tensor>;

/// Saves what both gradients need; missing parameters as undefined tensors.
void save(AutogradContext* ctx, const Variable& x, const OptionalTensor& weight, const OptionalTensor& bias,
          double eps) {
  const Variable scale = weight.value_or(Variable());
  const Variable shift = bias.value_or(Variable());
  ctx->save_for_backward({x, scale, shift});
  ctx->saved_data["eps"] = eps;
  ctx->saved_data["x"] = x.requires_grad();
  ctx->saved_data["weight"] = scale.defined() && scale.requires_grad();
  ctx->saved_data["bias"] = shift.defined() && shift.requires_grad();
}

std::array<bool, 3> wanted(AutogradContext* ctx) {
  auto& data = ctx->saved_data;
  return {data["x"].toBool(), data["weight"].toBool(), data["bias"].toBool()};
}

/// The gradients of x, weight and bias, without those that nobody asked for.
variable_list chosen(AutogradContext* ctx, std::size_t arguments, const std::array<std::size_t, 3>& places,
                     const std::tuple<at::Tensor, at::Tensor, at::Tensor>& found) {
  const std::array<at::Tensor, 3> gradients = {std::get<0>(found), std::get<1>(found), std::get<2>(found)};
  const std::array<bool, 3> mask = wanted(ctx);
  variable_list result(arguments);
  for (std::size_t i = 0; i < 3; ++i) {
    if (mask[i]) result[places[i]] = gradients[i];
  }
  return result;
}

class LayerNormFunction : public torch::autograd::Function<LayerNormFunction> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, at::IntArrayRef normalized_shape,
                          const OptionalTensor& weight, const OptionalTensor& bias, double eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    save(ctx, x, weight, bias, eps);
    ctx->saved_data["shape"] = normalized_shape;
    return ops::layer_norm(x, normalized_shape, weight, bias, eps);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto shape = ctx->saved_data["shape"].toIntVector();
    const auto [y, mean, rstd] =
        at::native_layer_norm(saved[0], shape, saved[1], saved[2], ctx->saved_data["eps"].toDouble());
    return chosen(ctx, 5, {0, 2, 3},
                  at::native_layer_norm_backward(grads[0].contiguous(), saved[0], shape, mean, rstd, saved[1], saved[2],
                                                 wanted(ctx)));
  }
};

class GroupNormFunction : public torch::autograd::Function<GroupNormFunction> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, std::int64_t groups, const OptionalTensor& weight,
                          const OptionalTensor& bias, double eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    save(ctx, x, weight, bias, eps);
    ctx->saved_data["groups"] = groups;
    return ops::group_norm(x, groups, weight, bias, eps);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor x = saved[0].contiguous();
    const c10::SymInt batch = x.sym_size(0);
    const c10::SymInt channels = x.sym_size(1);
    c10::SymInt inner = 1;
    for (std::int64_t i = 2; i < x.dim(); ++i) inner = inner * x.sym_size(i);
    const std::int64_t groups = ctx->saved_data["groups"].toInt();
    const auto [y, mean, rstd] = at::native_group_norm_symint(x, saved[1], saved[2], batch, channels, inner, groups,
                                                              ctx->saved_data["eps"].toDouble());
    return chosen(ctx, 5, {0, 2, 3},
                  at::native_group_norm_backward_symint(grads[0].contiguous(), x, mean, rstd, saved[1], batch, channels,
                                                        inner, groups, wanted(ctx)));
  }
};

at::Tensor layer_norm_autograd(const at::Tensor& x, at::IntArrayRef normalized_shape, const OptionalTensor& weight,
                               const OptionalTensor& bias, double eps) {
  return LayerNormFunction::apply(x, normalized_shape, weight, bias, eps);
}

at::Tensor group_norm_autograd(const at::Tensor& x, std::int64_t groups, const OptionalTensor& weight,
                               const OptionalTensor& bias, double eps) {
  return GroupNormFunction::apply(x, groups, weight, bias, eps);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("layer_norm", TORCH_FN(cimq::ops::layer_norm_autograd));
  m.impl("group_norm", TORCH_FN(cimq::ops::group_norm_autograd));
}
