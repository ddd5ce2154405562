#include "ops/resize2d.h"

#include <torch/library.h>

#include "ops/cuda/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "resize2d";

at::Tensor resize2d_cuda(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step, c10::string_view mode,
                         bool align_corners) {
  check_cuda(kName, "x", x, x);
  const kernels::Resize2d resize = checked_resize(x, size, step, mode, align_corners);
  return on_device_planes(kName, x, size[0], size[1], [&](const float* from, float* to, kernels::cuda::Stream stream) {
    kernels::cuda::resize2d(from, x.size(0), x.size(1), x.size(2), x.size(3), resize, to, stream);
  });
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) { m.impl("resize2d", TORCH_FN(cimq::ops::resize2d_cuda)); }
