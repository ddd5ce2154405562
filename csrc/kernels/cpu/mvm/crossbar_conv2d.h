// crossbar_conv2d on the processor.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "kernels/crossbar_conv2d.h"

namespace cimq::kernels::cpu {

/// The programmed crossbars of one convolution on one chip. Immutable; run() is const and thread-safe: split the batch
/// or the rows of the output (run_rows) over threads.
class CrossbarConv2d {
 public:
  explicit CrossbarConv2d(const Conv2dProblem& problem);

  bool exact() const { return groups_.front().exact(); }
  /// Plan of one group; all groups have the same, apart from converter ranges per column.
  const MvmPlan& plan() const { return groups_.front().plan(); }
  const Conv2dGeometry& geometry() const { return geometry_; }
  std::int64_t packed_bytes() const;
  /// Bound of the memory that run() takes for itself, per call (hence per thread), for images of h x w and `rows`
  /// output rows: a block of patches, its results, one row's input lines, and what the product takes.
  std::int64_t scratch_bytes(std::int64_t h, std::int64_t w, std::int64_t rows) const;

  /// x [batch, in_channels, h, w], y [batch, out_channels, out_h, out_w]. Works on blocks of patches: the whole im2col
  /// matrix never exists. Accesses are counted from first_access on. The int32 form needs exact(), the float form
  /// !exact().
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

}  // namespace cimq::kernels::cpu
