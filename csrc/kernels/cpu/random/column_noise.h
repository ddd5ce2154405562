// Read noise of many columns at once: the words and the formula of read_noise.h, vector by vector.
#pragma once

#include <cstdint>

#include "common/philox.h"

namespace cimq::kernels::cpu {

/// The converted columns of one digit row in one panel.
struct ColumnStream {
  PhiloxCounter key;  ///< of the access
  std::uint32_t tile;
  std::uint32_t place;        ///< digit and slice, as column_words() has them
  std::uint64_t column;       ///< of the first current
  int step;                   ///< from one current's column to the next: 1 or 2
  const std::int32_t* nodes;  ///< of the table that z is sampled from
  int sample_bits;            ///< fraction bits of z
  /// Variances of the columns, [width]; null: all have the square root `root` (column_root()).
  const std::int32_t* variances;
  std::int32_t root;
};

/// Adds noise to `width` currents (1/256 level), a multiple of 16 and at most kMaxNoisyColumns.
using ColumnNoiseAdder = void (*)(const ColumnStream& stream, std::int32_t* currents, int width);
constexpr int kMaxNoisyColumns = 64;

}  // namespace cimq::kernels::cpu
