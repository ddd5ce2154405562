// Tile kernel for single-bit digits and cells with AVX-512 VPOPCNTDQ: AND and bit count, 32 rows of 16 outputs at once.
#if defined(__x86_64__)
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/tile/avx512_epilogue.h"
#include "kernels/cpu/tile/tile_kernels.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vpopcntdq")

namespace cimq::kernels::cpu {
namespace {

/// Rows at a time: 16 sums leave registers for two lines of cells.
constexpr int max_rows(int lanes) { return lanes == 1 ? 8 : 16 / lanes; }

template <bool kPairs, int kRows, int kLanes>
void run_rows(const TileArgs& args, const std::byte* digits, const TileRow* rows) {
  __m512i current[kRows][kLanes];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j) current[r][j] = _mm512_set1_epi32(-args.lo);
  }
  const auto* cells = static_cast<const std::byte*>(args.cells);
  const std::ptrdiff_t row_bytes = args.steps * 4;
  for (std::int64_t step = 0; step < args.steps; ++step, digits += 4) {
    __m512i positive[kLanes];
    __m512i negative[kLanes];
#pragma GCC unroll 4
    for (int j = 0; j < kLanes; ++j) positive[j] = _mm512_load_si512(cells + 64 * j);
    cells += 64 * kLanes;
    if constexpr (kPairs) {
#pragma GCC unroll 4
      for (int j = 0; j < kLanes; ++j) negative[j] = _mm512_load_si512(cells + 64 * j);
      cells += 64 * kLanes;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512i digit = _mm512_set1_epi32(load_step(digits + r * row_bytes));
#pragma GCC unroll 4
      for (int j = 0; j < kLanes; ++j) {
        __m512i sum = _mm512_add_epi32(current[r][j], _mm512_popcnt_epi32(_mm512_and_si512(digit, positive[j])));
        if constexpr (kPairs) {
          sum = _mm512_sub_epi32(sum, _mm512_popcnt_epi32(_mm512_and_si512(digit, negative[j])));
        }
        current[r][j] = sum;
      }
    }
  }
  finish_rows<kRows, kLanes>(args, rows, current);
}

template <bool kPairs, int kLanes, int kRows>
void run_rest(const TileArgs& args, const std::byte* digits, const TileRow* rows, int left) {
  if (left >= kRows) {
    run_rows<kPairs, kRows, kLanes>(args, digits, rows);
    digits += args.steps * 4 * kRows;
    rows += kRows;
    left -= kRows;
  }
  if constexpr (kRows > 1) run_rest<kPairs, kLanes, kRows / 2>(args, digits, rows, left);
}

template <bool kPairs, int kLanes>
void run_panel(const TileArgs& args) {
  constexpr int kRows = max_rows(kLanes);
  const auto* digits = static_cast<const std::byte*>(args.digits);
  const TileRow* rows = args.rows;
  int left = args.row_count;
  for (; left >= kRows; left -= kRows, rows += kRows, digits += args.steps * 4 * kRows) {
    run_rows<kPairs, kRows, kLanes>(args, digits, rows);
  }
  run_rest<kPairs, kLanes, 4>(args, digits, rows, left);
}

template <bool kPairs>
void run_tile(const TileArgs& args) {
  switch (args.width) {
    case 16:
      return run_panel<kPairs, 1>(args);
    case 32:
      return run_panel<kPairs, 2>(args);
    case 48:
      return run_panel<kPairs, 3>(args);
    default:
      return run_panel<kPairs, 4>(args);
  }
}

void run_bits(const TileArgs& args) { args.pairs ? run_tile<true>(args) : run_tile<false>(args); }

}  // namespace

TileKernel avx512_bits_kernel() { return run_bits; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
