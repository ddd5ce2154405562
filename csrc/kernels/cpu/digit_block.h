// Activations of a block of batch rows, split into the digits that the drivers apply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/packed_cells.h"
#include "kernels/cpu/tile_kernel.h"

namespace cimq::kernels {

class DigitBlock {
 public:
  DigitBlock(const MvmPlan& plan, const PackedCells& cells, std::int64_t max_rows);

  /// Splits x [rows, inputs]. Digits that are zero over a whole tile are left out where they cannot matter.
  void load(const std::uint8_t* x, std::int64_t rows);

  const std::byte* digits(std::int64_t tile) const {
    return data_.data() + tile_offsets_[static_cast<std::size_t>(tile)];
  }
  const std::vector<cpu::TileRow>& rows(std::int64_t tile) const { return rows_[static_cast<std::size_t>(tile)]; }
  /// Sum of what is applied for each row, for the correction of the offset mapping.
  const std::vector<std::int64_t>& applied_sums() const { return applied_sums_; }
  /// Subtracted, times the sum of the weights, from every result.
  std::int64_t input_shift() const { return input_shift_; }
  std::int32_t max_digit() const { return max_digit_; }

  /// Rows of a block: as many as keep the digits in the second-level cache.
  static std::int64_t rows_per_block(const MvmPlan& plan, const PackedCells& cells);

 private:
  template <typename Digit>
  void split_row(const std::uint8_t* x, std::int32_t row);
  std::int64_t applied_sum(const std::uint8_t* bits, std::int64_t inputs) const;

  const MvmPlan& plan_;
  const PackedCells& cells_;
  int digit_count_;
  int digit_bits_;
  bool skip_zero_;
  bool keep_sign_ = false;  ///< the whole activation as a signed number
  std::int64_t input_shift_ = 0;
  std::int32_t max_digit_ = 0;
  std::vector<std::byte> data_;
  std::vector<std::size_t> tile_offsets_;
  std::vector<std::vector<cpu::TileRow>> rows_;
  std::vector<std::int64_t> applied_sums_;
  std::vector<std::uint8_t> bits_;
};

}  // namespace cimq::kernels
