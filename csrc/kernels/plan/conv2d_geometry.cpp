#include "kernels/plan/conv2d_geometry.h"

#include "common/error.h"

namespace cimq::kernels {

void check_geometry(const Conv2dGeometry& g, const char* op) {
  const auto at_least = [op](const char* name, std::int64_t value, std::int64_t lowest) {
    check(value >= lowest && value <= (std::int64_t{1} << 24), op, ": ", name, " must lie in ", lowest,
          "..16777216, got ", value);
  };
  at_least("in_channels", g.in_channels, 1);
  at_least("out_channels", g.out_channels, 1);
  at_least("kernel height", g.kernel_h, 1);
  at_least("kernel width", g.kernel_w, 1);
  at_least("vertical stride", g.stride_h, 1);
  at_least("horizontal stride", g.stride_w, 1);
  at_least("padding at the top", g.pad_top, 0);
  at_least("padding at the bottom", g.pad_bottom, 0);
  at_least("padding on the left", g.pad_left, 0);
  at_least("padding on the right", g.pad_right, 0);
  at_least("vertical dilation", g.dilation_h, 1);
  at_least("horizontal dilation", g.dilation_w, 1);
  at_least("groups", g.groups, 1);
  check(g.in_channels % g.groups == 0 && g.out_channels % g.groups == 0, op,
        ": in_channels and out_channels must be multiples of groups, got ", g.in_channels, " and ", g.out_channels,
        " with ", g.groups, " groups");
}

void check_image(const Conv2dGeometry& g, std::int64_t h, std::int64_t w, const char* op) {
  const std::int64_t reach_h = g.dilation_h * (g.kernel_h - 1) + 1;
  const std::int64_t reach_w = g.dilation_w * (g.kernel_w - 1) + 1;
  const bool fits =
      h >= 1 && w >= 1 && h + g.pad_top + g.pad_bottom >= reach_h && w + g.pad_left + g.pad_right >= reach_w;
  check(fits, op, ": the padded image must be at least as large as the dilated kernel (", reach_h, " x ", reach_w,
        "), got an image of ", h, " x ", w, " padded to ", h + g.pad_top + g.pad_bottom, " x ",
        w + g.pad_left + g.pad_right);
}

}  // namespace cimq::kernels
