#include "ops/avg_pool2d.h"

#include <torch/library.h>

#include "ops/cuda/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "avg_pool2d";

at::Tensor avg_pool2d_cuda(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                           at::IntArrayRef padding, bool count_include_pad, bool ceil_mode,
                           std::optional<std::int64_t> divisor_override) {
  check_cuda(kName, "x", x, x);
  const AvgPoolWindows windows =
      avg_pool_windows(x, kernel_size, stride, padding, count_include_pad, ceil_mode, divisor_override);
  return on_device_planes(
      kName, x, windows.out_h, windows.out_w, [&](const float* from, float* to, kernels::cuda::Stream on) {
        kernels::cuda::avg_pool2d(from, x.size(0), x.size(1), x.size(2), x.size(3), windows.pool, to, on);
      });
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) { m.impl("avg_pool2d", TORCH_FN(cimq::ops::avg_pool2d_cuda)); }
