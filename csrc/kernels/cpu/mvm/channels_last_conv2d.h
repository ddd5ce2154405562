// crossbar_conv2d of images in channel-last order, for layers whose crossbars give the exact product.
#pragma once

#include <cstdint>

#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "kernels/crossbar_conv2d.h"

namespace cimq::kernels::cpu {

/// The same integers as CrossbarConv2d, with images [h, w, channels]: a patch is kernel_h runs of bytes, which lie in
/// the image as they are in the patch, and results need not be brought into another order. The inputs of the matrix run
/// over kernel row, kernel column, channel; that another word line carries another product changes no exact sum, and no
/// other layer is taken. Immutable; run_rows() is const and thread-safe.
class ChannelsLastConv2d {
 public:
  /// Throws Error for several groups, and for a layer whose plan does not collapse.
  explicit ChannelsLastConv2d(const Conv2dProblem& problem);

  const MvmPlan& plan() const { return mvm_.plan(); }
  const Conv2dGeometry& geometry() const { return geometry_; }
  /// Bound of the memory that run_rows() takes for images of h x w and `rows` output rows.
  std::int64_t scratch_bytes(std::int64_t h, std::int64_t w, std::int64_t rows) const;

  /// x [batch, h, w, in_channels], y [batch, out_h, out_w, out_channels]; the rows [begin, end) of the batch * out_h
  /// output rows only, y is the whole output. Padding applies `border`.
  void run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin, std::int64_t end,
                std::int32_t* y, std::uint8_t border = 0) const;

 private:
  Conv2dGeometry geometry_;
  CrossbarMvm mvm_;
};

}  // namespace cimq::kernels::cpu
