// cimq::layer_norm, cimq::group_norm: normalisations whose sums have one order, so that evaluation, conversion and the
// executor agree.
#include "kernels/normalization.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/native_group_norm.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <cmath>

#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kLayer = "layer_norm";
constexpr const char* kGroup = "group_norm";
constexpr std::int64_t kValuesPerThread = 1 << 14;

using OptionalTensor = std::optional<at::Tensor>;

void check_float(const char* op, const char* name, const at::Tensor& tensor) {
  check_cpu(op, name, tensor);
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat, op, ": ", name, " must be float32, got ", describe(tensor));
}

void check_eps(const char* op, double eps) {
  TORCH_CHECK_VALUE(std::isfinite(eps) && eps >= 0.0, op, ": eps must be a number of at least 0, got ", eps);
}

/// Contiguous, or an undefined tensor.
at::Tensor checked_parameter(const char* op, const char* name, const OptionalTensor& values, at::IntArrayRef shape) {
  if (!values.has_value() || !values->defined()) return {};
  check_float(op, name, *values);
  TORCH_CHECK_VALUE(values->sizes() == shape, op, ": ", name, " must have shape ", shape, ", got ", values->sizes());
  return values->contiguous();
}

const float* pointer_of(const at::Tensor& values) {
  return values.defined() ? values.const_data_ptr<float>() : nullptr;
}

at::Tensor layer_norm_cpu(const at::Tensor& x, at::IntArrayRef normalized_shape, const OptionalTensor& weight,
                          const OptionalTensor& bias, double eps) {
  check_float(kLayer, "x", x);
  check_eps(kLayer, eps);
  const auto rank = static_cast<std::int64_t>(normalized_shape.size());
  TORCH_CHECK_VALUE(rank >= 1 && rank <= x.dim() && x.sizes().slice(x.dim() - rank) == normalized_shape, kLayer,
                    ": normalized_shape must be the last dimensions of x, got ", normalized_shape, " for shape ",
                    x.sizes());
  const at::Tensor source = x.contiguous();
  const at::Tensor scale = checked_parameter(kLayer, "weight", weight, normalized_shape);
  const at::Tensor shift = checked_parameter(kLayer, "bias", bias, normalized_shape);
  at::Tensor y = at::empty_like(source);
  std::int64_t n = 1;
  for (const std::int64_t size : normalized_shape) n *= size;
  if (source.numel() == 0) return y;
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  at::parallel_for(0, source.numel() / n, 1 + kValuesPerThread / n, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::layer_norm(from + begin * n, end - begin, n, pointer_of(scale), pointer_of(shift), eps,
                             to + begin * n);
  });
  return y;
}

at::Tensor group_norm_cpu(const at::Tensor& x, std::int64_t groups, const OptionalTensor& weight,
                          const OptionalTensor& bias, double eps) {
  check_float(kGroup, "x", x);
  check_eps(kGroup, eps);
  TORCH_CHECK_VALUE(x.dim() >= 2, kGroup, ": x must be [batch, channels, ...], got shape ", x.sizes());
  const std::int64_t channels = x.size(1);
  TORCH_CHECK_VALUE(groups >= 1 && channels >= 1 && channels % groups == 0, kGroup,
                    ": groups must divide the channels, got ", groups, " for ", channels, " channels");
  const at::Tensor source = x.contiguous();
  const at::Tensor scale = checked_parameter(kGroup, "weight", weight, {channels});
  const at::Tensor shift = checked_parameter(kGroup, "bias", bias, {channels});
  at::Tensor y = at::empty_like(source);
  if (source.numel() == 0) return y;
  const std::int64_t sample = source.numel() / x.size(0);
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  at::parallel_for(0, x.size(0), 1 + kValuesPerThread / sample, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::group_norm(from + begin * sample, end - begin, channels, sample / channels, groups, pointer_of(scale),
                             pointer_of(shift), eps, to + begin * sample);
  });
  return y;
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

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
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::layer_norm", "").typed<decltype(layer_norm_cpu)>();
    return kOp.call(x, normalized_shape, weight, bias, eps);
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
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::group_norm", "").typed<decltype(group_norm_cpu)>();
    return kOp.call(x, groups, weight, bias, eps);
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

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "layer_norm(Tensor x, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor");
  m.def("group_norm(Tensor x, int groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("layer_norm", TORCH_FN(cimq::ops::layer_norm_cpu));
  m.impl("group_norm", TORCH_FN(cimq::ops::group_norm_cpu));
}

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("layer_norm", TORCH_FN(cimq::ops::layer_norm_autograd));
  m.impl("group_norm", TORCH_FN(cimq::ops::group_norm_autograd));
}
