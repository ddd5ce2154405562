// Which images and sizes resizing takes.
#include "kernels/resize.h"

#include <cmath>

#include "common/error.h"

namespace cimq::kernels {

void check_resize2d(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& r) {
  check(n >= 0 && c >= 0 && h >= 1 && w >= 1, "resize2d: x must be [n, c, h, w] with h and w at least 1, got [", n,
        ", ", c, ", ", h, ", ", w, "]");
  check(r.out_h >= 1 && r.out_w >= 1, "resize2d: the result must have at least one row and column, got ", r.out_h,
        " x ", r.out_w);
  check(std::isfinite(r.step_h) && std::isfinite(r.step_w) && r.step_h > 0.0F && r.step_w > 0.0F,
        "resize2d: steps must be positive and finite, got ", r.step_h, " and ", r.step_w);
  check(r.mode == ResizeMode::kBilinear || !r.align_corners, "resize2d: only bilinear can align corners");
}

}  // namespace cimq::kernels
