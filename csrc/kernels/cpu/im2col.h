// One patch of an image as a row of the convolution's matrix.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/crossbar_conv2d.h"

namespace cimq::kernels {

/// Copies the patch of output position (oy, ox) of one group: channel, kernel row, kernel column; 0 outside the image.
/// @param x  the image's channels of this group, [in_channels / groups, h, w]
inline void copy_patch(const Conv2dGeometry& g, const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t oy,
                       std::int64_t ox, std::uint8_t* patch) {
  const std::int64_t left = ox * g.stride_w - g.pad_left;
  const bool inside = g.dilation_w == 1 && left >= 0 && left + g.kernel_w <= w;
  for (std::int64_t c = 0; c < g.in_channels / g.groups; ++c, x += h * w) {
    for (std::int64_t ky = 0; ky < g.kernel_h; ++ky, patch += g.kernel_w) {
      const std::int64_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
      if (iy < 0 || iy >= h) {
        std::fill_n(patch, g.kernel_w, std::uint8_t{0});
        continue;
      }
      const std::uint8_t* row = x + iy * w;
      if (inside) {
        std::copy_n(row + left, g.kernel_w, patch);
        continue;
      }
      for (std::int64_t kx = 0; kx < g.kernel_w; ++kx) {
        const std::int64_t ix = left + kx * g.dilation_w;
        patch[kx] = ix >= 0 && ix < w ? row[ix] : std::uint8_t{0};
      }
    }
  }
}

}  // namespace cimq::kernels
