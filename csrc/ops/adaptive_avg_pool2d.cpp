#include "ops/adaptive_avg_pool2d.h"

#include <torch/library.h>

#include "ops/support/dispatch.h"
#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "adaptive_avg_pool2d";

}  // namespace

at::Tensor adaptive_avg_pool2d(const at::Tensor& x, at::IntArrayRef output_size) {
  static const auto kOp = typed_op<decltype(adaptive_avg_pool2d)>("cimq::adaptive_avg_pool2d");
  return kOp.call(x, output_size);
}

void check_adaptive_avg_pool2d(const at::Tensor& x, at::IntArrayRef output_size) {
  check_images(kName, x);
  TORCH_CHECK_VALUE(output_size.size() == 2 && output_size[0] >= 1 && output_size[1] >= 1, kName,
                    ": output_size must be two values of at least 1, got ", output_size);
  TORCH_CHECK_VALUE(x.size(2) >= 1 && x.size(3) >= 1, kName, ": x must have height and width, got shape ", x.sizes());
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("adaptive_avg_pool2d(Tensor x, int[] output_size) -> Tensor"); }
