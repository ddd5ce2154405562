#include "ops/resize2d.h"

#include <torch/library.h>

#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "resize2d";

at::Tensor resize2d_cpu(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step, c10::string_view mode,
                        bool align_corners) {
  check_cpu(kName, "x", x);
  const kernels::Resize2d resize = checked_resize(x, size, step, mode, align_corners);
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  return on_planes(kName, x, size[0], size[1], 4, [&](const float* from, std::int64_t planes, float* to) {
    kernels::cpu::resize2d(from, 1, planes, h, w, resize, to);
  });
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("resize2d", TORCH_FN(cimq::ops::resize2d_cpu)); }
