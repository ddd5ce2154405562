// Tile kernel for AVX-512 with VNNI: one dot-product instruction per 16 outputs and step (vpdpbusd: four int8 rows,
// vpdpwssd: two int16 rows), 6 digits x 64 outputs in registers, so that a step needs 10 loads for 24 products.
#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms in gcc 12's own AVX-512 header (GCC bug 105593)
#endif
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/target_region.h"
#include "kernels/cpu/tile_kernels.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vnni")

namespace cimq::kernels::cpu {
namespace {

/// Rows at a time: 24 sums with the cells and a digit beside them in 32 registers; one lane is bound by its loads.
constexpr int max_rows(int lanes) { return lanes == 1 ? 8 : 24 / lanes; }

/// sum += digits . cells in place. As assembly, since gcc 12 copies every sum twice per step around the intrinsic,
/// which halves the speed.
template <bool kWords>
inline void add_dot(__m512i& sum, __m512i digits, __m512i cells) {
  if constexpr (kWords) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(digits), "v"(cells));
  } else {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(digits), "v"(cells));
  }
}

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

template <bool kWords, int kRows, int kLanes>
void run_rows(const TileArgs& args, const std::byte* digits, const TileRow* rows) {
  __m512i current[kRows][kLanes];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const __m512i start = _mm512_set1_epi32(args.cell_bias * rows[r].digit_sum - args.lo);
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j) current[r][j] = start;
  }
  const auto* cells = static_cast<const std::byte*>(args.cells);
  const std::ptrdiff_t row_bytes = args.steps * 4;
  for (std::int64_t step = 0; step < args.steps; ++step, cells += 64 * kLanes, digits += 4) {
    __m512i cell[kLanes];
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j) cell[j] = _mm512_load_si512(cells + 64 * j);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i digit = _mm512_set1_epi32(load_step(digits + r * row_bytes));
#pragma GCC unroll 4
      for (int j = 0; j < kLanes; ++j) add_dot<kWords>(current[r][j], digit, cell[j]);
    }
  }
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

/// The last rows, fewer than max_rows: halves of what is left to try.
template <bool kWords, int kLanes, int kRows>
void run_rest(const TileArgs& args, const std::byte* digits, const TileRow* rows, int left) {
  if (left >= kRows) {
    run_rows<kWords, kRows, kLanes>(args, digits, rows);
    digits += args.steps * 4 * kRows;
    rows += kRows;
    left -= kRows;
  }
  if constexpr (kRows > 1) run_rest<kWords, kLanes, kRows / 2>(args, digits, rows, left);
}

template <bool kWords, int kLanes>
void run_panel(const TileArgs& args) {
  constexpr int kRows = max_rows(kLanes);
  const auto* digits = static_cast<const std::byte*>(args.digits);
  const TileRow* rows = args.rows;
  int left = args.row_count;
  for (; left >= kRows; left -= kRows, rows += kRows, digits += args.steps * 4 * kRows) {
    run_rows<kWords, kRows, kLanes>(args, digits, rows);
  }
  run_rest<kWords, kLanes, (kRows >= 8 ? 8 : 4)>(args, digits, rows, left);
}

template <bool kWords>
void run_tile(const TileArgs& args) {
  switch (args.width) {
    case 16:
      return run_panel<kWords, 1>(args);
    case 32:
      return run_panel<kWords, 2>(args);
    case 48:
      return run_panel<kWords, 3>(args);
    default:
      return run_panel<kWords, 4>(args);
  }
}

}  // namespace

TileKernels avx512_kernels() { return {"avx512", run_tile<false>, run_tile<true>}; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
