// cimq::avg_pool2d: average pooling whose sums have one order, so that training, conversion and the executor agree.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/avg_pool2d_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>

#include "common/pooled_size.h"
#include "kernels/pooling.h"
#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "avg_pool2d";

at::Tensor avg_pool2d_cpu(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                          at::IntArrayRef padding, bool count_include_pad, bool ceil_mode,
                          std::optional<std::int64_t> divisor_override) {
  check_images(kName, x);
  TORCH_CHECK_VALUE(kernel_size.size() == 2 && stride.size() == 2 && padding.size() == 2, kName,
                    ": kernel_size, stride and padding must have two values each, got ", kernel_size, ", ", stride,
                    " and ", padding);
  const auto within = [&](const char* name, at::IntArrayRef values, std::int64_t lowest) {
    constexpr std::int64_t kHighest = std::int64_t{1} << 31;
    TORCH_CHECK_VALUE(std::min(values[0], values[1]) >= lowest && std::max(values[0], values[1]) <= kHighest, kName,
                      ": ", name, " must be at least ", lowest, " and at most 2^31, got ", values);
  };
  within("kernel_size", kernel_size, 1);
  within("stride", stride, 1);
  within("padding", padding, 0);
  TORCH_CHECK_VALUE(divisor_override.value_or(1) >= 1, kName, ": divisor_override must be at least 1, got ",
                    divisor_override.value_or(1));
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  const kernels::Pool2d pool{kernel_size[0], kernel_size[1],    stride[0],
                             stride[1],      padding[0],        padding[1],
                             ceil_mode,      count_include_pad, divisor_override.value_or(0)};
  const std::int64_t out_h = pooled_size(h, pool.kernel_h, pool.stride_h, pool.pad_h, 1, ceil_mode);
  const std::int64_t out_w = pooled_size(w, pool.kernel_w, pool.stride_w, pool.pad_w, 1, ceil_mode);
  TORCH_CHECK_VALUE(out_h >= 1 && out_w >= 1, kName, ": the kernel ", kernel_size,
                    " is larger than the padded image, shape ", x.sizes());
  const std::int64_t window = std::min(pool.kernel_h, h) * std::min(pool.kernel_w, w);
  return on_planes(kName, x, out_h, out_w, window, [&](const float* from, std::int64_t planes, float* to) {
    kernels::cpu::avg_pool2d(from, 1, planes, h, w, pool, to);
  });
}

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
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::avg_pool2d", "").typed<decltype(avg_pool2d_cpu)>();
    return kOp.call(x, kernel_size, stride, padding, count_include_pad, ceil_mode, divisor_override);
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

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "avg_pool2d(Tensor x, int[] kernel_size, int[] stride, int[] padding, bool count_include_pad=True, "
      "bool ceil_mode=False, int? divisor_override=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("avg_pool2d", TORCH_FN(cimq::ops::avg_pool2d_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("avg_pool2d", TORCH_FN(cimq::ops::avg_pool2d_autograd)); }
