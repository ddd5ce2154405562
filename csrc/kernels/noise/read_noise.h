// Read noise: new at every access of a column, Gaussian per cell, and therefore Gaussian for the column as a whole.
//
// For one access of a column (row tile, input digit, weight slice, batch row), V = sum over its cells of
// digit^2 * v(cell) is an exact integer, and so is the noise that is added to the current, in 1/256 level:
//   noise = (isqrt(V << 16) * z + 2^(shift-1)) >> shift         shift = 8 + z_bits
// isqrt rounds down; z is a sample of a Gaussian of standard deviation unit * 2^z_bits from its quantile table.
//   constant      v = 1                                unit = 256 * sigma (levels); every cell of a used row counts
//   proportional  v = (g * g + 2^(s-1)) >> s           unit = ratio * 2^(s/2); g in 1/256 level
// The random word: key = Philox(seed; access low 32 bits, access bits 32..47 | purpose << 24, layer, chip); then
// Philox(key words 0, 1; column >> 2, tile, digit | slice << 8, key word 3), word column & 3, where column is the
// output within the layer, or output * 2 + polarity where the columns of a pair are converted one by one. Access counts
// the products of a layer: batch rows, or image * output positions + position.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>

#include "common/hardware.h"
#include "common/host_device.h"
#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels {

/// Accesses are numbered with 48 bits.
constexpr std::uint64_t kMaxAccess = std::uint64_t{1} << 48;
/// Fraction bits of the square root of V.
constexpr int kRootFractionBits = 8;
constexpr int kMaxSampleBits = 30;

/// The largest r with r * r <= value; 0 <= value < 2^52, where the rounded square root is never above.
CIMQ_HOST_DEVICE inline std::int64_t integer_sqrt(std::int64_t value) {
  return static_cast<std::int64_t>(sqrt(static_cast<double>(value)));
}

/// v of a cell of conductance g (1/256 level), proportional noise.
CIMQ_HOST_DEVICE inline std::int32_t cell_variance(std::int32_t g, int shift) {
  const std::int64_t square = static_cast<std::int64_t>(g) * g;
  return static_cast<std::int32_t>(shift == 0 ? square : (square + (std::int64_t{1} << (shift - 1))) >> shift);
}

/// The square root of a column's variance with kRootFractionBits fraction bits; fits 26 bits.
CIMQ_HOST_DEVICE inline std::int64_t column_root(std::int64_t variance) {
  return integer_sqrt(variance << (2 * kRootFractionBits));
}

/// Noise of a column in 1/256 level. @param sample of the table @param sample_bits its fraction bits
CIMQ_HOST_DEVICE inline std::int64_t column_noise(std::int64_t variance, std::int32_t sample, int sample_bits) {
  const std::int64_t root = column_root(variance);
  const int shift = kRootFractionBits + sample_bits;
  return (root * sample + (std::int64_t{1} << (shift - 1))) >> shift;
}

/// Philox words that belong to one access of a layer.
CIMQ_HOST_DEVICE inline PhiloxCounter access_key(std::uint64_t seed, std::uint32_t chip, std::uint32_t layer,
                                                 std::uint64_t access) {
  return cell_words(seed, chip, layer, 0, CellPurpose::kReadKey, access);
}

/// What the words of a column have of its digit and slice.
CIMQ_HOST_DEVICE inline std::uint32_t column_place(int digit, int slice) {
  return static_cast<std::uint32_t>(digit) | (static_cast<std::uint32_t>(slice) << 8);
}

/// Uniform words of the four columns of a block (column >> 2).
CIMQ_HOST_DEVICE inline PhiloxCounter column_words(const PhiloxCounter& key, std::uint64_t block, std::int64_t tile,
                                                   int digit, int slice) {
  return philox4x32(
      {{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(tile), column_place(digit, slice), key.word[3]}},
      {{key.word[0], key.word[1]}});
}

/// Number of a converted column within its layer.
CIMQ_HOST_DEVICE inline std::uint64_t column_index(bool separate_columns, std::int64_t output, int polarity) {
  const auto index = static_cast<std::uint64_t>(output);
  return separate_columns ? 2U * index + static_cast<std::uint64_t>(polarity) : index;
}

/// The scale of the noise of a plan: what z is sampled from.
struct ReadScale {
  double unit = 0.0;    ///< standard deviation for V = 1, in 1/256 level
  int sample_bits = 0;  ///< fraction bits of a sample
  static ReadScale of(const Hardware& hardware, const MvmPlan& plan);
};

/// Read noise of one layer on one chip.
class ColumnNoise {
 public:
  /// Only for plan.reads.
  ColumnNoise(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options);

  PhiloxCounter key(std::uint64_t access) const { return access_key(seed_, chip_, layer_, access); }
  /// Noise of a column whose random word is `word`.
  std::int64_t sample(std::int64_t variance, std::uint32_t word) const {
    return column_noise(variance, table_->sample(word), sample_bits_);
  }
  std::int64_t first_output() const { return first_output_; }
  /// Where sample() gets z from, and its fraction bits.
  const QuantileTable& table() const { return *table_; }
  int sample_bits() const { return sample_bits_; }

 private:
  std::uint64_t seed_;
  std::uint32_t chip_, layer_;
  std::int64_t first_output_;
  int sample_bits_;
  std::shared_ptr<const QuantileTable> table_;
};

/// Fills plan.reads, read_shift and cells_per_column; returns the bound of the noise of a column.
/// @param max_cell  largest conductance of a cell, 1/256 level
std::int64_t plan_read_noise(MvmPlan& plan, const Hardware& hardware, std::int64_t max_digit, std::int64_t max_cell);

}  // namespace cimq::kernels
