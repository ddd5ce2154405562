#include "ops/adaptive_avg_pool2d.h"

#include <ATen/ops/_adaptive_avg_pool2d_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class AdaptiveAvgPool2d : public torch::autograd::Function<AdaptiveAvgPool2d> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, at::IntArrayRef output_size) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x});
    return ops::adaptive_avg_pool2d(x, output_size);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {at::_adaptive_avg_pool2d_backward(grads[0], ctx->get_saved_variables()[0]), Variable()};
  }
};

at::Tensor adaptive_avg_pool2d_autograd(const at::Tensor& x, at::IntArrayRef output_size) {
  return AdaptiveAvgPool2d::apply(x, output_size);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("adaptive_avg_pool2d", TORCH_FN(cimq::ops::adaptive_avg_pool2d_autograd));
}
