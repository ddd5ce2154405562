// 2-D convolution on programmed crossbars: every group is a matrix [out/groups, in/groups * kernel_h * kernel_w] whose
// inputs run over channel, kernel row, kernel column. Padding applies the integer 0.
#pragma once

#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "kernels/crossbar_mvm.h"

namespace cimq::kernels {

struct Conv2dGeometry {
  std::int64_t in_channels = 1;
  std::int64_t out_channels = 1;
  std::int64_t kernel_h = 1;
  std::int64_t kernel_w = 1;
  std::int64_t stride_h = 1;
  std::int64_t stride_w = 1;
  std::int64_t pad_top = 0;
  std::int64_t pad_bottom = 0;
  std::int64_t pad_left = 0;
  std::int64_t pad_right = 0;
  std::int64_t dilation_h = 1;
  std::int64_t dilation_w = 1;
  std::int64_t groups = 1;

  std::int64_t out_h(std::int64_t h) const {
    return (h + pad_top + pad_bottom - dilation_h * (kernel_h - 1) - 1) / stride_h + 1;
  }
  std::int64_t out_w(std::int64_t w) const {
    return (w + pad_left + pad_right - dilation_w * (kernel_w - 1) - 1) / stride_w + 1;
  }
  std::int64_t inputs_per_output() const { return in_channels / groups * kernel_h * kernel_w; }
};

/// Refuses impossible geometry, naming `op` and the field.
void check_geometry(const Conv2dGeometry& geometry, const char* op);
/// Refuses an image that is smaller than the kernel (or empty).
void check_image(const Conv2dGeometry& geometry, std::int64_t h, std::int64_t w, const char* op);

/// The programmed crossbars of one convolution on one chip. Immutable; run() is const and thread-safe: split the batch
/// or the rows of the output (run_rows) over threads.
class CrossbarConv2d {
 public:
  /// @param w  OIHW, [out_channels, in_channels / groups, kernel_h, kernel_w]
  /// Groups share the layer index; their cells differ, since they are numbered by the output within the layer.
  CrossbarConv2d(const Hardware& hardware, const std::int8_t* w, const Conv2dGeometry& geometry,
                 const MvmOptions& options);

  bool exact() const { return groups_.front().exact(); }
  /// Plan of one group; all groups have the same, apart from converter ranges per column.
  const MvmPlan& plan() const { return groups_.front().plan(); }
  const Conv2dGeometry& geometry() const { return geometry_; }
  std::int64_t packed_bytes() const;
  /// Bound of the memory that run() takes for itself, per call (hence per thread), for images of h x w and `rows`
  /// output rows: a block of patches, its results, one row's input lines, and what the product takes.
  std::int64_t scratch_bytes(std::int64_t h, std::int64_t w, std::int64_t rows) const;

  /// x [batch, in_channels, h, w], y [batch, out_channels, out_h, out_w]. Works on blocks of patches: the whole im2col
  /// matrix never exists. Output position p of image i is access first_access + i * positions + p of every group. The
  /// int32 form needs exact(), the float form !exact().
  void run(const std::uint8_t* x, std::int64_t batch, std::int64_t h, std::int64_t w, std::int32_t* y,
           std::uint64_t first_access = 0) const;
  void run(const std::uint8_t* x, std::int64_t batch, std::int64_t h, std::int64_t w, float* y,
           std::uint64_t first_access = 0) const;

  /// The rows [begin, end) of the batch * out_h output rows only (row = image * out_h + oy); y is the whole output.
  void run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin, std::int64_t end,
                std::int32_t* y, std::uint64_t first_access = 0) const;
  void run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin, std::int64_t end, float* y,
                std::uint64_t first_access = 0) const;

 private:
  template <typename T>
  void run_block_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin, std::int64_t end, T* y,
                      std::uint64_t first_access) const;

  Conv2dGeometry geometry_;
  std::vector<CrossbarMvm> groups_;
};

/// The same as plain loops: im2col of everything, then crossbar_mvm_reference per group.
void crossbar_conv2d_reference(const Hardware& hardware, const std::int8_t* w, const Conv2dGeometry& geometry,
                               const MvmOptions& options, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                               std::int64_t width, std::int32_t* y, std::uint64_t first_access = 0);
void crossbar_conv2d_reference(const Hardware& hardware, const std::int8_t* w, const Conv2dGeometry& geometry,
                               const MvmOptions& options, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                               std::int64_t width, float* y, std::uint64_t first_access = 0);

}  // namespace cimq::kernels
