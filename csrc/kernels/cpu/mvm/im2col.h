// Patches of an image as rows of the convolution's matrix, one output row after the other.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/plan/conv2d_geometry.h"

namespace cimq::kernels::cpu {

/// Gathers the patches of one group. Input lines are copied with their padding first, so that the gathering itself
/// needs no bounds checks and moves whole kernel rows.
class PatchGatherer {
 public:
  PatchGatherer(const Conv2dGeometry& geometry, std::int64_t h, std::int64_t w);

  /// Writes the patches of the output positions [ox_begin, ox_end) of row `oy`, one after the other, each over channel,
  /// kernel row, kernel column. `patches` must have kSlack bytes after the last patch: they may be overwritten.
  /// @param x  the image's channels of the group, [in_channels / groups, h, w]
  void gather(const std::uint8_t* x, std::int64_t oy, std::int64_t ox_begin, std::int64_t ox_end,
              std::uint8_t* patches);

  static constexpr std::int64_t kSlack = 8;
  /// Memory of a gatherer for images of width w.
  static std::int64_t bytes(const Conv2dGeometry& geometry, std::int64_t w) {
    return geometry.in_channels / geometry.groups * geometry.kernel_h *
           (geometry.pad_left + w + geometry.pad_right + kSlack);
  }

 private:
  void load_lines(const std::uint8_t* x, std::int64_t oy);

  const Conv2dGeometry& g_;
  std::int64_t h_;
  std::int64_t w_;
  std::int64_t lines_count_;  ///< channels of the group times kernel rows
  std::int64_t line_bytes_;
  std::vector<std::uint8_t> lines_;
};

}  // namespace cimq::kernels::cpu
