#include "ops/activation.h"

#include <ATen/ops/elu_backward.h>
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

#include <string>

namespace cimq::ops {
namespace {

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
    return ops::activation(x, name, alpha);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    const double alpha = ctx->saved_data["alpha"].toDouble();
    return {gradient(activation_kind(ctx->saved_data["name"].toStringRef()), alpha, grads[0], x), Variable(),
            Variable()};
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

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("activation", TORCH_FN(cimq::ops::activation_autograd)); }
