#include "ops/adaptive_avg_pool2d.h"

#include <torch/library.h>

#include "kernels/pooling.h"
#include "ops/cuda/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "adaptive_avg_pool2d";

at::Tensor adaptive_avg_pool2d_cuda(const at::Tensor& x, at::IntArrayRef output_size) {
  check_cuda(kName, "x", x, x);
  check_adaptive_avg_pool2d(x, output_size);
  return on_device_planes(kName, x, output_size[0], output_size[1],
                          [&](const float* from, float* to, kernels::cuda::Stream stream) {
                            kernels::cuda::adaptive_avg_pool2d(from, x.size(0), x.size(1), x.size(2), x.size(3),
                                                               output_size[0], output_size[1], to, stream);
                          });
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  m.impl("adaptive_avg_pool2d", TORCH_FN(cimq::ops::adaptive_avg_pool2d_cuda));
}
