// What every AVX-512 tile kernel does with its currents: convert, weight, add to the sums.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernel.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl")

namespace cimq::kernels::cpu {

/// The four bytes of one step of a row's digits.
inline std::int32_t load_step(const std::byte* p) {
  std::int32_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

/// Codes of one row, weighted by its digit, in place of its currents.
template <int kLanes>
inline void convert_row(const TileArgs& args, const TileRow& row, __m512i* current) {
  const bool negative = (row.negative != 0) != args.negative;
  const __m128i shift = _mm_cvtsi32_si128(row.shift);
  if (args.convert) {
    // Rounding is odd-symmetric: a row that is subtracted is converted with everything negated.
    const __m512 inv_lsb = _mm512_set1_ps(negative ? -args.inv_lsb : args.inv_lsb);
    const __m512 lowest = _mm512_set1_ps(static_cast<float>(negative ? -args.code_max : args.code_min));
    const __m512 highest = _mm512_set1_ps(static_cast<float>(negative ? -args.code_min : args.code_max));
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j) {
      __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(current[j]), inv_lsb);
      value = _mm512_min_ps(_mm512_max_ps(value, lowest), highest);
      current[j] = _mm512_sll_epi32(_mm512_cvtps_epi32(value), shift);
    }
  } else {
    const __m512i sign = _mm512_set1_epi32(negative ? -1 : 0);
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j) {
      current[j] = _mm512_sub_epi32(_mm512_xor_si512(_mm512_sll_epi32(current[j], shift), sign), sign);
    }
  }
}

/// Adds codes to the sums of an output row.
template <int kLanes>
inline void add_codes(const TileArgs& args, const TileRow& row, const __m512i* codes) {
  std::int32_t* sums = args.sums + std::ptrdiff_t{row.output_row} * (16 * kLanes);
#pragma GCC unroll 4
  for (int j = 0; j < kLanes; ++j) {
    _mm512_storeu_si512(sums + 16 * j, _mm512_add_epi32(_mm512_loadu_si512(sums + 16 * j), codes[j]));
  }
}

/// Finishes kRows rows whose currents are complete.
template <int kRows, int kLanes>
inline void finish_rows(const TileArgs& args, const TileRow* rows, __m512i (&current)[kRows][kLanes]) {
  // Digits of one batch row follow each other: their codes are added up in registers, not one by one through memory.
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    convert_row<kLanes>(args, rows[r], current[r]);
    if (r == 0) continue;
    if (rows[r].output_row == rows[r - 1].output_row) {
#pragma GCC unroll 4
      for (int j = 0; j < kLanes; ++j) current[r][j] = _mm512_add_epi32(current[r][j], current[r - 1][j]);
    } else {
      add_codes<kLanes>(args, rows[r - 1], current[r - 1]);
    }
  }
  add_codes<kLanes>(args, rows[kRows - 1], current[kRows - 1]);
}

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
