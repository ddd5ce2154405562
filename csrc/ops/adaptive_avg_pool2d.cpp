// cimq::adaptive_avg_pool2d: adaptive average pooling whose sums have one order.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_adaptive_avg_pool2d_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/pooling.h"
#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "adaptive_avg_pool2d";

at::Tensor adaptive_avg_pool2d_cpu(const at::Tensor& x, at::IntArrayRef output_size) {
  check_images(kName, x);
  TORCH_CHECK_VALUE(output_size.size() == 2 && output_size[0] >= 1 && output_size[1] >= 1, kName,
                    ": output_size must be two values of at least 1, got ", output_size);
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  TORCH_CHECK_VALUE(h >= 1 && w >= 1, kName, ": x must have height and width, got shape ", x.sizes());
  const std::int64_t work = (h / output_size[0] + 1) * (w / output_size[1] + 1);
  return on_planes(kName, x, output_size[0], output_size[1], work,
                   [&](const float* from, std::int64_t planes, float* to) {
                     kernels::cpu::adaptive_avg_pool2d(from, 1, planes, h, w, output_size[0], output_size[1], to);
                   });
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class AdaptiveAvgPool2d : public torch::autograd::Function<AdaptiveAvgPool2d> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, at::IntArrayRef output_size) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x});
    static const auto kOp = c10::Dispatcher::singleton()
                                .findSchemaOrThrow("cimq::adaptive_avg_pool2d", "")
                                .typed<decltype(adaptive_avg_pool2d_cpu)>();
    return kOp.call(x, output_size);
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

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("adaptive_avg_pool2d(Tensor x, int[] output_size) -> Tensor"); }

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("adaptive_avg_pool2d", TORCH_FN(cimq::ops::adaptive_avg_pool2d_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("adaptive_avg_pool2d", TORCH_FN(cimq::ops::adaptive_avg_pool2d_autograd));
}
