// Tile kernel for AVX2. vpmaddubsw adds two int8 products in int16: where the tile's digits and cells are small, whole
// runs of steps stay in int16; where two products could saturate, even and odd rows are multiplied on their own.
#if defined(__x86_64__)
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/rounding.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernels.h"

CIMQ_TARGET_REGION("avx2")

#include "kernels/cpu/tile/column_converter.h"

namespace cimq::kernels::cpu {
namespace {

constexpr int kMaxRows = 4;
constexpr int kVectors = 2;  // 16 outputs at a time: 8 sums, 2 cells, a digit and a few constants of 16 registers

enum class Product { kSmallBytes, kLargeBytes, kWords };

inline __m256i load_step(const std::byte* p) {
  std::int32_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return _mm256_set1_epi32(value);
}

inline __m256i load(const std::byte* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

inline void finish_vector(const TileArgs& args, const TileRow& row, __m256i current, std::int32_t* sums) {
  const bool negative = (row.negative != 0) != args.negative;
  if (args.convert) {
    __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(current), _mm256_set1_ps(args.inv_lsb));
    value = _mm256_max_ps(value, _mm256_set1_ps(static_cast<float>(args.code_min)));
    value = _mm256_min_ps(value, _mm256_set1_ps(static_cast<float>(args.code_max)));
    current = _mm256_cvtps_epi32(value);
  }
  const __m256i sign = _mm256_set1_epi32(negative ? -1 : 0);
  const __m256i shifted = _mm256_sll_epi32(current, _mm_cvtsi32_si128(row.shift));
  auto* out = reinterpret_cast<__m256i*>(sums);
  const __m256i code = _mm256_sub_epi32(_mm256_xor_si256(shifted, sign), sign);
  _mm256_storeu_si256(out, _mm256_add_epi32(_mm256_loadu_si256(out), code));
}

/// Adds one step in int32: products too large to share int16, or int16 rows.
template <Product kProduct>
inline __m256i add_step(__m256i sum, __m256i digit, __m256i cell) {
  if constexpr (kProduct == Product::kWords) return _mm256_add_epi32(sum, _mm256_madd_epi16(digit, cell));
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i even_bytes = _mm256_set1_epi16(0x00FF);
  const __m256i even = _mm256_maddubs_epi16(_mm256_and_si256(digit, even_bytes), cell);
  const __m256i odd = _mm256_maddubs_epi16(_mm256_andnot_si256(even_bytes, digit), cell);
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, ones));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(odd, ones));
}

template <Product kProduct, int kRows>
void run_rows(const TileArgs& args, const std::byte* digits, const TileRow* rows, int first) {
  __m256i current[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kVectors; ++j) {
      current[r][j] = _mm256_set1_epi32(args.cell_bias * rows[r].digit_sum - args.lo);
    }
  }
  const std::ptrdiff_t row_bytes = args.steps * 4;
  const std::ptrdiff_t step_bytes = std::ptrdiff_t{args.width} * 4;
  const std::byte* cells = static_cast<const std::byte*>(args.cells) + std::ptrdiff_t{first} * 4;
  if constexpr (kProduct == Product::kSmallBytes) {
    // A step adds two products to each int16.
    const std::int64_t run = std::max<std::int64_t>(1, 32767 / std::max(1, 2 * args.max_product));
    for (std::int64_t begin = 0; begin < args.steps; begin += run) {
      const std::int64_t end = std::min(args.steps, begin + run);
      __m256i words[kRows][kVectors];
      for (int r = 0; r < kRows; ++r) {
        for (int j = 0; j < kVectors; ++j) words[r][j] = _mm256_setzero_si256();
      }
      for (std::int64_t step = begin; step < end; ++step) {
        const std::byte* cell = cells + step * step_bytes;
        const __m256i cell0 = load(cell);
        const __m256i cell1 = load(cell + 32);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const __m256i digit = load_step(digits + r * row_bytes + step * 4);
          words[r][0] = _mm256_add_epi16(words[r][0], _mm256_maddubs_epi16(digit, cell0));
          words[r][1] = _mm256_add_epi16(words[r][1], _mm256_maddubs_epi16(digit, cell1));
        }
      }
      const __m256i ones = _mm256_set1_epi16(1);
      for (int r = 0; r < kRows; ++r) {
        for (int j = 0; j < kVectors; ++j) {
          current[r][j] = _mm256_add_epi32(current[r][j], _mm256_madd_epi16(words[r][j], ones));
        }
      }
    }
  } else {
    for (std::int64_t step = 0; step < args.steps; ++step) {
      const std::byte* cell = cells + step * step_bytes;
      const __m256i cell0 = load(cell);
      const __m256i cell1 = load(cell + 32);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i digit = load_step(digits + r * row_bytes + step * 4);
        current[r][0] = add_step<kProduct>(current[r][0], digit, cell0);
        current[r][1] = add_step<kProduct>(current[r][1], digit, cell1);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    std::int32_t* sums = args.sums + std::ptrdiff_t{rows[r].output_row} * args.width + first;
    for (int j = 0; j < kVectors; ++j) finish_vector(args, rows[r], current[r][j], sums + 8 * j);
  }
}

template <Product kProduct>
void run_all_rows(const TileArgs& args) {
  for (int first = 0; first < args.width; first += 8 * kVectors) {
    const auto* digits = static_cast<const std::byte*>(args.digits);
    const TileRow* rows = args.rows;
    int left = args.row_count;
    for (; left >= kMaxRows; left -= kMaxRows, rows += kMaxRows, digits += args.steps * 4 * kMaxRows) {
      run_rows<kProduct, kMaxRows>(args, digits, rows, first);
    }
    for (; left > 0; --left, ++rows, digits += args.steps * 4) run_rows<kProduct, 1>(args, digits, rows, first);
  }
}

void run_bytes(const TileArgs& args) {
  if (2 * args.max_product <= 32767) {
    run_all_rows<Product::kSmallBytes>(args);
  } else {
    run_all_rows<Product::kLargeBytes>(args);
  }
}

}  // namespace

TileKernels avx2_kernels() {
  return {.bytes = run_bytes,
          .words = run_all_rows<Product::kWords>,
          .bits = scalar_kernels().bits,
          .columns = convert_columns,
          .tables = avx2_sum_tables(),
          .sampler = avx2_cell_sampler(),
          .noise = avx2_column_noise()};
}

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
