// Which shapes float32 layers take.
#include "kernels/dense.h"

#include "common/error.h"

namespace cimq::kernels {

void check_linear_f32(std::int64_t batch, std::int64_t inputs, std::int64_t outputs) {
  check(batch >= 0 && inputs >= 1 && outputs >= 1,
        "linear_f32: batch must be at least 0, inputs and outputs at least 1, got ", batch, ", ", inputs, ", ",
        outputs);
}

void check_conv2d_f32(const Conv2dGeometry& geometry, std::int64_t batch, std::int64_t h, std::int64_t width) {
  check_geometry(geometry, "conv2d_f32");
  check_image(geometry, h, width, "conv2d_f32");
  check(batch >= 0, "conv2d_f32: batch must be at least 0, got ", batch);
}

}  // namespace cimq::kernels
