// Tile kernel for single-bit digits and cells with AVX-512 VPOPCNTDQ: AND and bit count, 32 rows of 16 outputs at once.
#if defined(__x86_64__)
#include <bit>
#include <cstddef>

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/tile/avx512_epilogue.h"
#include "kernels/cpu/tile/tile_kernels.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vpopcntdq")

#include "kernels/cpu/tile/row_blocks.h"

namespace cimq::kernels::cpu {
namespace {

template <bool kPairs>
struct BitCounts {
  /// Rows at a time: 16 sums leave registers for two lines of cells.
  static constexpr int max_rows(int lanes) { return lanes == 1 ? 8 : 16 / lanes; }

  template <int kRows, int kLanes>
  static void run_rows(const TileArgs& args, const std::byte* digits, const TileRow* rows) {
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
};

void run_bits(const TileArgs& args) { args.pairs ? run_tile<BitCounts<true>>(args) : run_tile<BitCounts<false>>(args); }

}  // namespace

TileKernel avx512_bits_kernel() { return run_bits; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
