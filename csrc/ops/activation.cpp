// cimq::activation: activation functions whose bits are defined, so that training, conversion and the executor agree.
#include "kernels/activation.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/elu_backward.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/hardsigmoid_backward.h>
#include <ATen/ops/hardswish_backward.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sigmoid_backward.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tanh_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <string>

#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "activation";

kernels::Activation kind_of(c10::string_view name) {
  const auto kind = kernels::activation_of(std::string_view(name.data(), name.size()));
  TORCH_CHECK_VALUE(kind.has_value(), kName,
                    ": kind must be sigmoid, silu, hardsigmoid, hardswish, tanh, gelu, "
                    "gelu_tanh or elu, got '",
                    name, "'");
  return *kind;
}

at::Tensor activation_cpu(const at::Tensor& x, c10::string_view name, double alpha) {
  const kernels::Activation kind = kind_of(name);
  check_cpu(kName, "x", x);
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat, kName, ": x must be float32, got ", describe(x));
  TORCH_CHECK_VALUE(std::isfinite(static_cast<float>(alpha)), kName, ": alpha must be a finite float32, got ", alpha);
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  constexpr std::int64_t kGrain = std::int64_t{1} << 12;
  at::parallel_for(0, source.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::activation(kind, from + begin, end - begin, to + begin, static_cast<float>(alpha));
  });
  return y;
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class ActivationFunction : public torch::autograd::Function<ActivationFunction> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, c10::string_view name, double alpha) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x});
    ctx->saved_data["alpha"] = alpha;
    ctx->saved_data["name"] = std::string(name.data(), name.size());
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::activation", "").typed<decltype(activation_cpu)>();
    return kOp.call(x, name, alpha);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    const double alpha = ctx->saved_data["alpha"].toDouble();
    return {gradient(kind_of(ctx->saved_data["name"].toStringRef()), alpha, grads[0], x), Variable(), Variable()};
  }

 private:
  static at::Tensor gradient(kernels::Activation kind, double alpha, const at::Tensor& grad, const at::Tensor& x) {
    switch (kind) {
      case kernels::Activation::kSigmoid:
        return at::sigmoid_backward(grad, at::sigmoid(x));
      case kernels::Activation::kSilu:
        return at::silu_backward(grad, x);
      case kernels::Activation::kHardsigmoid:
        return at::hardsigmoid_backward(grad, x);
      case kernels::Activation::kTanh:
        return at::tanh_backward(grad, at::tanh(x));
      case kernels::Activation::kGelu:
        return at::gelu_backward(grad, x, "none");
      case kernels::Activation::kGeluTanh:
        return at::gelu_backward(grad, x, "tanh");
      case kernels::Activation::kElu:
        return at::elu_backward(grad, alpha, 1.0, 1.0, false, x);
      case kernels::Activation::kHardswish:
        break;
    }
    return at::hardswish_backward(grad, x);
  }
};

at::Tensor activation_autograd(const at::Tensor& x, c10::string_view name, double alpha) {
  return ActivationFunction::apply(x, name, alpha);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("activation(Tensor x, str kind, float alpha=1.0) -> Tensor"); }

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("activation", TORCH_FN(cimq::ops::activation_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("activation", TORCH_FN(cimq::ops::activation_autograd)); }
