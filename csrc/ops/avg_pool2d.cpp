#include "ops/avg_pool2d.h"

#include <torch/library.h>

#include <algorithm>

#include "common/pooled_size.h"
#include "ops/support/dispatch.h"
#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "avg_pool2d";

}  // namespace

at::Tensor avg_pool2d(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                      bool count_include_pad, bool ceil_mode, std::optional<std::int64_t> divisor_override) {
  static const auto kOp = typed_op<decltype(avg_pool2d)>("cimq::avg_pool2d");
  return kOp.call(x, kernel_size, stride, padding, count_include_pad, ceil_mode, divisor_override);
}

AvgPoolWindows avg_pool_windows(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
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
  const kernels::Pool2d pool{kernel_size[0], kernel_size[1],    stride[0],
                             stride[1],      padding[0],        padding[1],
                             ceil_mode,      count_include_pad, divisor_override.value_or(0)};
  const std::int64_t out_h = pooled_size(x.size(2), pool.kernel_h, pool.stride_h, pool.pad_h, 1, ceil_mode);
  const std::int64_t out_w = pooled_size(x.size(3), pool.kernel_w, pool.stride_w, pool.pad_w, 1, ceil_mode);
  TORCH_CHECK_VALUE(out_h >= 1 && out_w >= 1, kName, ": the kernel ", kernel_size,
                    " is larger than the padded image, shape ", x.sizes());
  return {pool, out_h, out_w};
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "avg_pool2d(Tensor x, int[] kernel_size, int[] stride, int[] padding, bool count_include_pad=True, "
      "bool ceil_mode=False, int? divisor_override=None) -> Tensor");
}
