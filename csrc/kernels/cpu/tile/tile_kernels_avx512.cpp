// Tile kernel for AVX-512 with VNNI: one dot-product instruction per 16 outputs and step (vpdpbusd: four int8 rows,
// vpdpwssd: two int16 rows), 6 digits x 64 outputs in registers, so that a step needs 10 loads for 24 products.
#if defined(__x86_64__)

#include <bit>
#include <cstddef>
#include <cstdint>

#include "common/rounding.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/tile/avx512_epilogue.h"
#include "kernels/cpu/tile/tile_kernels.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vnni")

#include "kernels/cpu/tile/column_converter.h"
#include "kernels/cpu/tile/row_blocks.h"

namespace cimq::kernels::cpu {
namespace {

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

template <bool kWords>
struct DotProducts {
  /// Rows at a time: 24 sums with the cells and a digit beside them in 32 registers; one lane is bound by its loads.
  static constexpr int max_rows(int lanes) { return lanes == 1 ? 8 : 24 / lanes; }

  template <int kRows, int kLanes>
  static void run_rows(const TileArgs& args, const std::byte* digits, const TileRow* rows) {
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
    finish_rows<kRows, kLanes>(args, rows, current);
  }
};

}  // namespace

TileKernels avx512_kernels() {
  return {.bytes = run_tile<DotProducts<false>>,
          .words = run_tile<DotProducts<true>>,
          .bits = scalar_kernels().bits,
          .columns = convert_columns,
          .tables = avx512_sum_tables(),
          .sampler = avx512_cell_sampler(),
          .noise = avx512_column_noise(),
          .fast_products = true};
}

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
