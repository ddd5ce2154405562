#include "kernels/cpu/mvm/im2col.h"

#include <algorithm>
#include <cstring>

namespace cimq::kernels::cpu {

PatchGatherer::PatchGatherer(const Conv2dGeometry& geometry, std::int64_t h, std::int64_t w)
    : g_(geometry),
      h_(h),
      w_(w),
      lines_count_(geometry.in_channels / geometry.groups * geometry.kernel_h),
      line_bytes_(geometry.pad_left + w + geometry.pad_right + kSlack),
      lines_(static_cast<std::size_t>(lines_count_ * line_bytes_)) {}

void PatchGatherer::load_lines(const std::uint8_t* x, std::int64_t oy) {
  std::uint8_t* line = lines_.data();
  for (std::int64_t c = 0; c < g_.in_channels / g_.groups; ++c, x += h_ * w_) {
    for (std::int64_t ky = 0; ky < g_.kernel_h; ++ky, line += line_bytes_) {
      const std::int64_t iy = oy * g_.stride_h - g_.pad_top + ky * g_.dilation_h;
      // The padding on both sides is zero from the start and never written.
      if (iy < 0 || iy >= h_) {
        std::fill_n(line + g_.pad_left, w_, std::uint8_t{0});
      } else {
        std::copy_n(x + iy * w_, w_, line + g_.pad_left);
      }
    }
  }
}

void PatchGatherer::gather(const std::uint8_t* x, std::int64_t oy, std::int64_t ox_begin, std::int64_t ox_end,
                           std::uint8_t* patches) {
  load_lines(x, oy);
  const bool whole_rows = g_.dilation_w == 1 && g_.kernel_w <= kSlack;
  for (std::int64_t ox = ox_begin; ox < ox_end; ++ox) {
    const std::uint8_t* line = lines_.data() + ox * g_.stride_w;
    if (whole_rows) {
      // Eight bytes at a time; what is too much is overwritten by the next kernel row or patch.
      for (std::int64_t j = 0; j < lines_count_; ++j, line += line_bytes_, patches += g_.kernel_w) {
        std::memcpy(patches, line, kSlack);
      }
      continue;
    }
    for (std::int64_t j = 0; j < lines_count_; ++j, line += line_bytes_) {
      for (std::int64_t kx = 0; kx < g_.kernel_w; ++kx) *patches++ = line[kx * g_.dilation_w];
    }
  }
}

}  // namespace cimq::kernels::cpu
