// Activations of a block of batch rows, split into the digits that the drivers apply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/mvm/packed_cells.h"
#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {

/// How digits are stored (tile_kernel.h).
enum class DigitFormat {
  kLikeCells,  ///< for the kernel of the cells' format
  kGroups,     ///< one byte per four single-bit digits, for sum tables
  kMatrix,     ///< bytes whatever the cells, for matrix kernels
};

/// The eight digits of every four inputs as bytes, see split_groups().
using GroupDigits = void (*)(const std::uint8_t* bits, std::int64_t groups, std::uint64_t* digits);

class DigitBlock {
 public:
  DigitBlock(const MvmPlan& plan, const PackedCells& cells, std::int64_t max_rows,
             DigitFormat format = DigitFormat::kLikeCells);

  /// Splits x [rows, inputs]. Digits that are zero over a whole tile are left out where they cannot matter. Where the
  /// bytes of x are the digits as the kernel wants them, they are not copied: x must stay until the next call.
  void load(const std::uint8_t* x, std::int64_t rows);

  const std::byte* digits(std::int64_t tile) const {
    return in_place_ != nullptr ? in_place_ : data_.data() + tile_offsets_[static_cast<std::size_t>(tile)];
  }
  const std::vector<TileRow>& rows(std::int64_t tile) const { return rows_[static_cast<std::size_t>(tile)]; }
  /// Sum of what is applied for each row, for the correction of the offset mapping.
  const std::vector<std::int64_t>& applied_sums() const { return applied_sums_; }
  /// Subtracted, times the sum of the weights, from every result.
  std::int64_t input_shift() const { return input_shift_; }
  std::int32_t max_digit() const { return max_digit_; }
  /// Whether digits are whole activations with their sign.
  bool keeps_sign() const { return keep_sign_; }

  /// Memory of one row's digits.
  static std::int64_t bytes_per_row(const MvmPlan& plan, const PackedCells& cells, DigitFormat format);

  /// Rows of a block: as many as keep the digits in the second-level cache, and as make a table worth its work.
  static std::int64_t rows_per_block(const MvmPlan& plan, const PackedCells& cells,
                                     DigitFormat format = DigitFormat::kLikeCells);

  /// Input digits of an activation.
  static int digits_of(const MvmPlan& plan, const PackedCells& cells);

 private:
  static std::int64_t row_bytes(const PackedCells& cells, std::int64_t tile, DigitFormat format);
  void refer_to(const std::uint8_t* x, std::int64_t rows);
  /// Where a row's bytes are its digits: unsigned activations in a product without slices.
  void copy_row(const std::uint8_t* x, std::int32_t row);
  template <typename Digit>
  void split_row(const std::uint8_t* x, std::int32_t row);
  /// The digits of one input row in one tile, as kGroups.
  void split_groups(const std::uint8_t* bits, std::uint8_t seen, std::int64_t tile, std::int32_t row);
  std::int64_t applied_sum(const std::uint8_t* bits, std::int64_t inputs) const;

  const MvmPlan& plan_;
  const PackedCells& cells_;
  DigitFormat format_;
  int digit_count_;
  int digit_bits_;
  bool skip_zero_;
  bool sums_digits_;
  GroupDigits group_digits_of_;
  bool whole_bytes_ = false;
  bool no_copy_ = false;                 ///< whole bytes that need no rearranging
  const std::byte* in_place_ = nullptr;  ///< the operand itself, where it is not copied
  bool keep_sign_ = false;               ///< the whole activation as a signed number
  std::int64_t input_shift_ = 0;
  std::int32_t max_digit_ = 0;
  std::vector<std::byte> data_;
  std::vector<std::size_t> tile_offsets_;
  std::vector<std::vector<TileRow>> rows_;
  std::vector<std::int64_t> applied_sums_;
  std::vector<std::uint8_t> bits_;
  std::vector<std::uint64_t> group_digits_;  ///< of one row in one tile
};

}  // namespace cimq::kernels::cpu
