// How weights and activations become cells, columns, rows and digits (docs/numbers.md): the rules of the mappings, here
// and nowhere else. The plan of a product, the tiler, the latency model, the wires and the backward ask these
// functions; the Python specification derives them on its own, and tests hold the two together.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/bits.h"
#include "common/hardware.h"
#include "common/host_device.h"

namespace cimq {

// ---- integers of a width ----

struct IntegerRange {
  std::int64_t lo = 0;
  std::int64_t hi = 0;
};

/// Largest magnitude of a weight: 2^(w-1) - 1, or 1 for one bit, whose values are -1 and +1.
CIMQ_HOST_DEVICE constexpr std::int32_t largest_weight(std::int64_t weight_bits) {
  return weight_bits > 1 ? (std::int32_t{1} << (weight_bits - 1)) - 1 : 1;
}

/// Values of a weight; that one bit has no 0 is left to the kernels to refuse.
constexpr IntegerRange weight_range(std::int64_t weight_bits) {
  return {-largest_weight(weight_bits), largest_weight(weight_bits)};
}

/// Half of the values of an activation: what two's complement has below zero.
CIMQ_HOST_DEVICE constexpr std::int32_t half_range(std::int64_t bits) { return std::int32_t{1} << (bits - 1); }

/// Values of an activation: 0..2^a - 1, or two's complement.
constexpr IntegerRange activation_range(std::int64_t act_bits, bool is_signed) {
  return is_signed ? IntegerRange{-half_range(act_bits), half_range(act_bits) - 1}
                   : IntegerRange{0, (std::int64_t{1} << act_bits) - 1};
}

/// Largest magnitude of an activation.
constexpr std::int64_t largest_activation(std::int64_t act_bits, bool is_signed) {
  const IntegerRange range = activation_range(act_bits, is_signed);
  return std::max(-range.lo, range.hi);
}

// ---- columns and rows ----

/// Columns of a weight slice: a pair in differential_column.
CIMQ_HOST_DEVICE constexpr int column_polarities(Mapping mapping) {
  return mapping == Mapping::kDifferentialColumn ? 2 : 1;
}
/// Rows of an input: a pair in differential_row.
CIMQ_HOST_DEVICE constexpr int row_polarities(Mapping mapping) { return mapping == Mapping::kDifferentialRow ? 2 : 1; }
/// Cells of a weight slice.
CIMQ_HOST_DEVICE constexpr int polarities(Mapping mapping) {
  return column_polarities(mapping) * row_polarities(mapping);
}
/// Columns of a layer beside those of its weights: the one of `offset` that sums the inputs up.
CIMQ_HOST_DEVICE constexpr int reference_columns(Mapping mapping) { return mapping == Mapping::kOffset ? 1 : 0; }

/// Where the cell of (output, slice, polarity, input) sits: whole layer, before it is cut into tiles. Columns are
/// output-major, then slice, then the two of a pair; rows input-major, then the two of a pair.
struct CellPosition {
  std::int64_t row;
  std::int64_t column;
};
CIMQ_HOST_DEVICE constexpr CellPosition cell_position(Mapping mapping, int slices, std::int64_t output,
                                                      std::int64_t input, int slice, int polarity) {
  const int rows = row_polarities(mapping);
  const int columns = column_polarities(mapping);
  return {rows * input + (rows == 2 ? polarity : 0),
          columns * (output * slices + slice) + (columns == 2 ? polarity : 0)};
}

/// Inputs that one array takes: rows, or rows / 2 where an input drives a pair.
std::int64_t inputs_per_tile(const Hardware& hardware);
/// Rows of one array that are used: differential_row leaves the last one of an odd array empty.
std::int64_t used_rows(const Hardware& hardware);
/// Physical rows of a layer.
std::int64_t physical_rows(Mapping mapping, std::int64_t inputs);
/// Physical columns of a layer, the reference column included.
std::int64_t physical_columns(Mapping mapping, std::int64_t outputs, int slices);

// ---- digits and slices ----

/// Cells per weight, n_w: ceil(w/c), or max(1, ceil((w-1)/c)) with sign_magnitude. Throws Error for other widths than
/// 1..8.
int weight_slices(const Hardware& hardware, int weight_bits);
/// Input cycles per activation, n_x: ceil(a/d). Throws as weight_slices.
int input_digits(const Hardware& hardware, int act_bits);

/// How an activation is applied.
struct AppliedInput {
  std::vector<std::int32_t> digit_weights;  ///< [n_x] 2^(d*i); the top one negative for signed activations with d = 1
  std::int32_t shift = 0;                   ///< added to signed activations with d > 1 before they are applied
};
AppliedInput applied_input(const Hardware& hardware, int act_bits, bool is_signed);

/// How a weight is stored.
struct StoredWeight {
  std::vector<std::int64_t> slice_weights;  ///< [n_w] what a level is worth: 2^(c*s)
  std::int32_t shift = 0;                   ///< added to weights by the offset mapping
  std::int32_t max_level = 1;               ///< largest level that a cell of this width can hold
};
StoredWeight stored_weight(const Hardware& hardware, int weight_bits);

/// One-bit weights in one-bit cells with an offset: {0, 2} does not fit, so that a cell holds (w + 1) / 2, worth 2.
CIMQ_HOST_DEVICE constexpr bool halves_weights(Mapping mapping, int cell_bits, int weight_bits) {
  return mapping == Mapping::kOffset && weight_bits == 1 && cell_bits == 1;
}

/// Level that slice `slice` of the weight `w_q` puts into a cell; `polarity` 1 is the negative one of a pair.
CIMQ_HOST_DEVICE constexpr std::int32_t cell_level(Mapping mapping, int cell_bits, int weight_bits, std::int32_t w_q,
                                                   int slice, int polarity) {
  std::int32_t stored = polarity == 0 ? w_q : -w_q;
  if (mapping == Mapping::kOffset) {
    stored = (w_q + half_range(weight_bits)) >> (halves_weights(mapping, cell_bits, weight_bits) ? 1 : 0);
  } else if (stored < 0) {
    stored = 0;
  }
  return static_cast<std::int32_t>(digit_of(static_cast<std::uint32_t>(stored), slice, cell_bits));
}

// ---- converters ----

/// Whether the two columns of a pair are converted one by one.
bool converts_columns_apart(const Hardware& hardware);
/// Whether a converter sees a quantity of both signs: a pair that is subtracted before, or driven with opposite signs.
bool converts_signed(const Hardware& hardware);

/// Codes of a converter.
struct CodeRange {
  std::int32_t levels = 0;  ///< L: 2^b, or 2^b - 1 for a signed quantity, so that zero is a code
  std::int32_t min = 0;
  std::int32_t max = 0;
};
/// Codes of a converter of `bits` bits.
CodeRange code_range(int bits, bool is_signed);

}  // namespace cimq
