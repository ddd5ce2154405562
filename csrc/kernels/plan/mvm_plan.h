// What a matrix of weights on a given hardware means in numbers: digits, slices, tiles, converter codes, and the
// bounds that keep every sum exact. Made once per layer; every backend computes from the same plan.
#pragma once

#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "common/mapping.h"

namespace cimq::kernels {

/// Fraction bits of a conductance where cells are not exactly their level: int16 in 1/256 of a level step.
constexpr int kConductanceFractionBits = 8;
constexpr std::int32_t kConductanceUnit = 1 << kConductanceFractionBits;
constexpr std::int32_t kMaxConductance = 32767;

/// Read noise of a column: which variance its cells have (read_noise.h).
enum class ReadModel { kNone, kConstant, kProportional };

struct MvmOptions {
  int weight_bits = 8;  ///< 1..8
  int act_bits = 8;     ///< 1..8
  bool act_signed = false;
  std::uint64_t seed = 0;  ///< with `chip`: one draw of all variation
  std::uint32_t chip = 0;
  std::uint32_t layer = 0;           ///< keeps the cells of layers apart
  std::vector<std::int32_t> adc_lo;  ///< [n_w] level units; calibrated and learned ranges only
  std::vector<double> adc_lsb;       ///< [n_w] level units; calibrated and learned ranges only
  /// Not 0: adc_lo and adc_lsb are [n_w][adc_columns], one range per output of the layer, of which the matrix uses
  /// those from first_output on. Needs adc.granularity column.
  std::int64_t adc_columns = 0;
  /// Let lossless results skip the slices. The result is the same; false exists for tests and measurements.
  bool allow_collapse = true;
  /// Number of the matrix's first output within its layer, so that the groups of a convolution have cells of their own.
  std::int64_t first_output = 0;
};

/// One weight slice and its converter range.
struct SlicePlan {
  std::int64_t weight = 1;  ///< 2^(c*s)
  std::int32_t lo = 0;      ///< code 0, level units
  double lsb = 1.0;         ///< step, level units
  float inv_lsb = 1.0F;     ///< float32(1 / lsb); per 1/256 level where fractional
  float scale = 1.0F;       ///< float32(weight * lsb)
};

/// Converter ranges of the columns (or pairs of columns) of every output, [n_w][outputs]; fields as in SlicePlan.
struct ColumnRanges {
  std::vector<std::int32_t> lo;
  std::vector<double> lsb;
  std::vector<float> inv_lsb;
  std::vector<float> scale;
};

struct MvmPlan {
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  int weight_bits = 8;
  int act_bits = 8;
  bool act_signed = false;
  Mapping mapping = Mapping::kDifferentialColumn;
  int cell_bits = 1;
  int dac_bits = 1;

  int n_x = 1;                              ///< input digits: ceil(a / d)
  int n_w = 1;                              ///< weight slices
  std::vector<std::int32_t> digit_weights;  ///< [n_x] 2^(d*i); the top one negative for signed activations with d = 1
  std::int32_t input_shift = 0;             ///< added to signed activations with d > 1 before they are applied
  std::int32_t weight_shift = 0;            ///< added to weights by the offset mapping
  std::int32_t max_level = 1;               ///< largest level a cell of this layer can hold

  std::int64_t inputs_per_tile = 1;  ///< rows, or rows / 2 for differential_row
  std::int64_t row_tiles = 1;        ///< T = ceil(inputs / inputs_per_tile)
  std::int64_t columns = 1;          ///< physical columns of the layer
  std::int64_t rows_needed = 1;      ///< physical rows of the layer

  bool ideal = true;              ///< no converter: code = I
  bool given_range = false;       ///< lo and lsb come from the caller (calibrated, learned)
  bool signed_codes = false;      ///< symmetric codes; else 0..levels-1
  bool separate_columns = false;  ///< the two columns of a pair are converted one by one
  std::int32_t levels = 0;        ///< L; 0 when ideal
  std::int32_t code_min = 0;
  std::int32_t code_max = 0;
  std::vector<SlicePlan> slices;  ///< [n_w]; only the weights count where ranges are given per column
  ColumnRanges column_ranges;     ///< empty: a slice has one range for all of its columns

  bool varies = false;               ///< chips, or accesses of one chip, differ
  bool fractional = false;           ///< conductances and currents in 1/256 level
  std::int32_t base = 0;             ///< 1/256 level: what level 0 conducts, where fractional
  bool exact = true;                 ///< int32 results; else float32
  bool lossless = true;              ///< the result is x . w^T: exact, and no code can clip
  bool collapses = true;             ///< lossless, and allowed to skip the slices
  std::int64_t largest_current = 0;  ///< bound of |I| in a tile (1/256 level where fractional)
  std::int64_t largest_sum = 0;      ///< bound of |C_s|, the sum of codes of a slice

  ReadModel reads = ReadModel::kNone;
  int read_shift = 0;                 ///< proportional: scale of the variances
  std::int64_t cells_per_column = 1;  ///< cells of an input that one converted current adds up, where reads

  /// Columns or rows of a weight: 2 in a differential mapping.
  int polarities() const { return cimq::polarities(mapping); }
  /// Current units per level step.
  std::int32_t unit() const { return fractional ? kConductanceUnit : 1; }
  /// Subtracted from the conductances of a converted column: the reference column of `offset` carries level 0 in every
  /// row. In a pair that is subtracted before conversion level 0 cancels by itself.
  std::int32_t cancelled_base() const { return mapping == Mapping::kOffset ? base : 0; }
  /// Whether every column (pair) has a range of its own.
  bool by_column() const { return !column_ranges.lsb.empty(); }
  /// Weight and range of one column (pair).
  SlicePlan range(int slice, std::int64_t output) const;
  /// Whether results are integers to the user. With a given range they are float32 whatever its values are, so that the
  /// type does not depend on data; where they are `exact` the floats hold the integers.
  bool gives_integers() const { return exact && !given_range; }
  /// Largest magnitude that code 0 of an input of value zero contributes: zero if zero digit planes may be skipped.
  bool zero_input_is_zero_code() const;
  /// float32 constant that a range not starting at 0 adds (offset mapping; cancels in a pair of columns).
  float lo_constant(std::int64_t output) const;
};

/// Plans a matrix [outputs, inputs] on `hardware`.
/// Throws cimq::Error, naming what must hold and what it got, for impossible hardware or options and for a
/// configuration in which a sum could leave its integer type (the bound is in the message).
MvmPlan make_mvm_plan(const Hardware& hardware, std::int64_t outputs, std::int64_t inputs, const MvmOptions& options);

/// Whether a current of a column with this range can lie beyond the converter's codes.
bool can_clip(const MvmPlan& plan, const SlicePlan& range);

/// Whether every product that this hardware can compute at all is x . w^T, whatever its shape and widths.
bool always_lossless(const Hardware& hardware);

/// Refuses weights outside the narrow range of `weight_bits`: -(2^(w-1)-1)..2^(w-1)-1, or -1 and +1 for one bit.
void check_weights(const std::int8_t* w, std::int64_t count, int weight_bits);

/// Refuses activations outside the range of `act_bits` (raw bits, see crossbar_mvm.h).
void check_activations(const std::uint8_t* x, std::int64_t count, int act_bits, bool act_signed);

/// Level that slice `slice` of weight `w_q` puts into a cell; `polarity` 1 is the negative column or row of a pair.
inline std::int32_t cell_level(const MvmPlan& plan, std::int32_t w_q, int slice, int polarity) {
  return cimq::cell_level(plan.mapping, plan.cell_bits, plan.weight_bits, w_q, slice, polarity);
}

}  // namespace cimq::kernels
