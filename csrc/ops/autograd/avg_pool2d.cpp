#include "ops/avg_pool2d.h"

#include <ATen/ops/avg_pool2d_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class AvgPool2d : public torch::autograd::Function<AvgPool2d> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                          at::IntArrayRef padding, bool count_include_pad, bool ceil_mode,
                          std::optional<std::int64_t> divisor_override) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x});
    ctx->saved_data["kernel_size"] = kernel_size;
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["count_include_pad"] = count_include_pad;
    ctx->saved_data["ceil_mode"] = ceil_mode;
    ctx->saved_data["divisor_override"] = divisor_override;
    return ops::avg_pool2d(x, kernel_size, stride, padding, count_include_pad, ceil_mode, divisor_override);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto& data = ctx->saved_data;
    const auto kernel_size = data["kernel_size"].toIntVector();
    const auto stride = data["stride"].toIntVector();
    const auto padding = data["padding"].toIntVector();
    return {at::avg_pool2d_backward(grads[0], ctx->get_saved_variables()[0], kernel_size, stride, padding,
                                    data["ceil_mode"].toBool(), data["count_include_pad"].toBool(),
                                    data["divisor_override"].toOptional<std::int64_t>()),
            Variable(),
            Variable(),
            Variable(),
            Variable(),
            Variable(),
            Variable()};
  }
};

at::Tensor avg_pool2d_autograd(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                               at::IntArrayRef padding, bool count_include_pad, bool ceil_mode,
                               std::optional<std::int64_t> divisor_override) {
  return AvgPool2d::apply(x, kernel_size, stride, padding, count_include_pad, ceil_mode, divisor_override);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("avg_pool2d", TORCH_FN(cimq::ops::avg_pool2d_autograd)); }
