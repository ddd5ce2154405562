#include "ops/adaptive_avg_pool2d.h"

#include <torch/library.h>

#include "kernels/pooling.h"
#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "adaptive_avg_pool2d";

at::Tensor adaptive_avg_pool2d_cpu(const at::Tensor& x, at::IntArrayRef output_size) {
  check_cpu(kName, "x", x);
  check_adaptive_avg_pool2d(x, output_size);
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  const std::int64_t work = (h / output_size[0] + 1) * (w / output_size[1] + 1);
  return on_planes(kName, x, output_size[0], output_size[1], work,
                   [&](const float* from, std::int64_t planes, float* to) {
                     kernels::cpu::adaptive_avg_pool2d(from, 1, planes, h, w, output_size[0], output_size[1], to);
                   });
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("adaptive_avg_pool2d", TORCH_FN(cimq::ops::adaptive_avg_pool2d_cpu)); }
