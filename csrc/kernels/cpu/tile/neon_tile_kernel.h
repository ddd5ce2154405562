// Tile kernel in 128-bit NEON vectors: 4 rows x 8 outputs at a time. What multiplies a step is a parameter: with the
// dot-product extension or without. Included inside the target region of its user.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

constexpr int kVectors = 2;  ///< 8 outputs
constexpr int kMaxRows = 4;

/// The four bytes of one step of a row's digits, in every lane.
inline int8x16_t load_step(const std::byte* p) {
  std::int32_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return vreinterpretq_s8_s32(vdupq_n_s32(value));
}

inline int8x16_t load_cells(const std::byte* p) { return vld1q_s8(reinterpret_cast<const std::int8_t*>(p)); }

inline void finish_vector(const TileArgs& args, const TileRow& row, int32x4_t current, std::int32_t* sums) {
  const bool negative = (row.negative != 0) != args.negative;
  if (args.convert) {
    float32x4_t value = vmulq_n_f32(vcvtq_f32_s32(current), args.inv_lsb);
    value = vmaxq_f32(value, vdupq_n_f32(static_cast<float>(args.code_min)));
    value = vminq_f32(value, vdupq_n_f32(static_cast<float>(args.code_max)));
    current = vcvtnq_s32_f32(value);
  }
  const int32x4_t weighted = vshlq_s32(current, vdupq_n_s32(row.shift));
  const int32x4_t old = vld1q_s32(sums);
  vst1q_s32(sums, negative ? vsubq_s32(old, weighted) : vaddq_s32(old, weighted));
}

/// Product::add(sum, digits, cells) adds one step.
template <typename Product, int kRows>
void run_rows(const TileArgs& args, const std::byte* digits, const TileRow* rows, int first) {
  int32x4_t current[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kVectors; ++j) current[r][j] = vdupq_n_s32(args.cell_bias * rows[r].digit_sum - args.lo);
  }
  const std::ptrdiff_t row_bytes = args.steps * 4;
  const std::ptrdiff_t step_bytes = std::ptrdiff_t{args.width} * 4;
  const std::byte* cells = static_cast<const std::byte*>(args.cells) + std::ptrdiff_t{first} * 4;
  for (std::int64_t step = 0; step < args.steps; ++step, cells += step_bytes) {
    const int8x16_t cell0 = load_cells(cells);
    const int8x16_t cell1 = load_cells(cells + 16);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const int8x16_t digit = load_step(digits + r * row_bytes + step * 4);
      current[r][0] = Product::add(current[r][0], digit, cell0);
      current[r][1] = Product::add(current[r][1], digit, cell1);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    std::int32_t* sums = args.sums + std::ptrdiff_t{rows[r].output_row} * args.width + first;
    for (int j = 0; j < kVectors; ++j) finish_vector(args, rows[r], current[r][j], sums + 4 * j);
  }
}

template <typename Product>
void run_all_rows(const TileArgs& args) {
  for (int first = 0; first < args.width; first += 4 * kVectors) {
    const auto* digits = static_cast<const std::byte*>(args.digits);
    const TileRow* rows = args.rows;
    int left = args.row_count;
    for (; left >= kMaxRows; left -= kMaxRows, rows += kMaxRows, digits += args.steps * 4 * kMaxRows) {
      run_rows<Product, kMaxRows>(args, digits, rows, first);
    }
    for (; left > 0; --left, ++rows, digits += args.steps * 4) run_rows<Product, 1>(args, digits, rows, first);
  }
}

/// Digits above 127 are no int8: their top bit is multiplied on its own.
template <typename Small>
struct LargeDigits {
  static int32x4_t add(int32x4_t sum, int8x16_t digits, int8x16_t cells) {
    const int8x16_t top = vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(digits), 7));
    const int32x4_t upper = Small::add(vdupq_n_s32(0), top, cells);
    return Small::add(vaddq_s32(sum, vshlq_n_s32(upper, 7)), vandq_s8(digits, vdupq_n_s8(127)), cells);
  }
};

template <typename Small>
void run_bytes(const TileArgs& args) {
  const std::int32_t largest_cell = args.max_cell > -args.min_cell ? args.max_cell : -args.min_cell;
  if (args.max_product <= 127 * largest_cell) {
    run_all_rows<Small>(args);
  } else {
    run_all_rows<LargeDigits<Small>>(args);
  }
}

}  // namespace
}  // namespace cimq::kernels::cpu
