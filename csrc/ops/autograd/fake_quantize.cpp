#include "ops/fake_quantize.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using Axis = std::optional<std::int64_t>;

class FakeQuantize : public torch::autograd::Function<FakeQuantize> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& scale, std::int64_t qmin,
                          std::int64_t qmax, Axis axis, std::optional<double> grad_scale, bool binary) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, scale});
    ctx->saved_data["qmin"] = qmin;
    ctx->saved_data["qmax"] = qmax;
    ctx->saved_data["axis"] = axis;
    ctx->saved_data["grad_scale"] = grad_scale;
    ctx->saved_data["binary"] = binary;
    return ops::fake_quantize(x, scale, qmin, qmax, axis, grad_scale, binary);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const auto [dx, dscale] = fake_quantize_backward(grads[0], saved[0], saved[1], data["qmin"].toInt(),
                                                     data["qmax"].toInt(), data["axis"].toOptional<std::int64_t>(),
                                                     data["grad_scale"].toOptional<double>(), data["binary"].toBool());
    return {dx, dscale, Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

class FakeQuantizeBackward : public torch::autograd::Function<FakeQuantizeBackward> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static variable_list forward(AutogradContext* /*ctx*/, const Variable& grad, const Variable& x, const Variable& scale,
                               std::int64_t qmin, std::int64_t qmax, Axis axis, std::optional<double> grad_scale,
                               bool binary) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto [dx, dscale] = fake_quantize_backward(grad, x, scale, qmin, qmax, axis, grad_scale, binary);
    return {dx, dscale};
  }

  static variable_list backward(AutogradContext* /*ctx*/, const variable_list& /*grads*/) {
    TORCH_CHECK_NOT_IMPLEMENTED(false,
                                "fake_quantize: second derivatives are not defined for a straight-through estimator");
  }
};

at::Tensor fake_quantize_autograd(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                  Axis axis, std::optional<double> grad_scale, bool binary) {
  return FakeQuantize::apply(x, scale, qmin, qmax, axis, grad_scale, binary);
}

std::tuple<at::Tensor, at::Tensor> fake_quantize_backward_autograd(const at::Tensor& grad, const at::Tensor& x,
                                                                   const at::Tensor& scale, std::int64_t qmin,
                                                                   std::int64_t qmax, Axis axis,
                                                                   std::optional<double> grad_scale, bool binary) {
  auto result = FakeQuantizeBackward::apply(grad, x, scale, qmin, qmax, axis, grad_scale, binary);
  return {result[0], result[1]};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("fake_quantize", TORCH_FN(cimq::ops::fake_quantize_autograd));
  m.impl("fake_quantize_backward", TORCH_FN(cimq::ops::fake_quantize_backward_autograd));
}
