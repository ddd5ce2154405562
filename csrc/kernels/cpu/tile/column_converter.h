// The converter where every column has a range of its own, after a tile kernel that only made the currents. One loop
// that the compiler turns into the vectors of the instruction set. Included inside the target region of its user.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/rounding.h"
#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

/// The formula of adc_code (the clamp comes first, so that codes are small), 16 columns at a time.
inline void convert_columns(const ColumnArgs& args) {
  const auto lowest = static_cast<float>(args.code_min);
  const auto highest = static_cast<float>(args.code_max);
  for (int first = 0; first < args.width; first += kLaneWidth) {
    alignas(64) std::int32_t lo[kLaneWidth];
    alignas(64) float inv_lsb[kLaneWidth];
    for (int j = 0; j < kLaneWidth; ++j) {
      lo[j] = args.lo[first + j];
      inv_lsb[j] = args.inv_lsb[first + j];
    }
    for (int r = 0; r < args.row_count; ++r) {
      const TileRow& row = args.rows[r];
      const std::int32_t* __restrict current = args.currents + std::ptrdiff_t{r} * args.width + first;
      std::int32_t* __restrict sums = args.sums + std::ptrdiff_t{row.output_row} * args.width + first;
      const std::uint32_t sign = (row.negative != 0) != args.negative ? ~0U : 0U;
      const std::int32_t shift = row.shift;
      for (int j = 0; j < kLaneWidth; ++j) {
        float value = static_cast<float>(current[j] - lo[j]) * inv_lsb[j];
        value = value < lowest ? lowest : value;
        value = value > highest ? highest : value;
        const auto code = static_cast<std::uint32_t>(static_cast<std::int32_t>(round_small_half_even(value)));
        // Modulo 2^32, as the tile kernels add up.
        sums[j] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[j]) + (((code << shift) ^ sign) - sign));
      }
    }
  }
}

}  // namespace
}  // namespace cimq::kernels::cpu
