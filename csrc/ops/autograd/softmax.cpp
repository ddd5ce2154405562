#include "ops/softmax.h"

#include <ATen/ops/_log_softmax_backward_data.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class SoftmaxFunction : public torch::autograd::Function<SoftmaxFunction> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, std::int64_t dim, bool logarithm) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Variable y = ops::softmax(x, dim, logarithm);
    ctx->save_for_backward({y});
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["logarithm"] = logarithm;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor y = ctx->get_saved_variables()[0];
    const std::int64_t dim = ctx->saved_data["dim"].toInt();
    const bool logarithm = ctx->saved_data["logarithm"].toBool();
    return {logarithm ? at::_log_softmax_backward_data(grads[0], y, dim, y.scalar_type())
                      : at::_softmax_backward_data(grads[0], y, dim, y.scalar_type()),
            Variable(), Variable()};
  }
};

at::Tensor softmax_autograd(const at::Tensor& x, std::int64_t dim, bool logarithm) {
  return SoftmaxFunction::apply(x, dim, logarithm);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("softmax", TORCH_FN(cimq::ops::softmax_autograd)); }
