#include "ops/avg_pool2d.h"

#include <torch/library.h>

#include <algorithm>

#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "avg_pool2d";

at::Tensor avg_pool2d_cpu(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                          at::IntArrayRef padding, bool count_include_pad, bool ceil_mode,
                          std::optional<std::int64_t> divisor_override) {
  check_cpu(kName, "x", x);
  const AvgPoolWindows windows =
      avg_pool_windows(x, kernel_size, stride, padding, count_include_pad, ceil_mode, divisor_override);
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  const std::int64_t window = std::min(windows.pool.kernel_h, h) * std::min(windows.pool.kernel_w, w);
  return on_planes(kName, x, windows.out_h, windows.out_w, window,
                   [&](const float* from, std::int64_t planes, float* to) {
                     kernels::cpu::avg_pool2d(from, 1, planes, h, w, windows.pool, to);
                   });
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("avg_pool2d", TORCH_FN(cimq::ops::avg_pool2d_cpu)); }
