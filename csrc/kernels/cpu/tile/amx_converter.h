// What becomes of the C tiles of amx_kernel.h: currents in memory, converted, weighted by their digits and added up.
// Included inside a target region of AVX-512 with VNNI.
//
// A vector of codes that no bound of the converter can reach costs four instructions: convert, multiply, round, and one
// vpdpwssd that weights the code and adds it to those of the same input. Each of them can run beside the tile products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

constexpr int kBlockRows = 2 * kMatrixRows;  ///< digit rows that are multiplied at once
constexpr int kBlockLanes = 2 * kLaneWidth;  ///< currents of a digit row: of 32 outputs, or of 16 in two parts

/// What digit rows of a block mean to their codes.
struct BlockRows {
  const TileRow* rows = nullptr;
  int count = 0;
  alignas(64) std::int32_t weights[kBlockRows];  ///< what the digit counts
  alignas(64) std::int32_t starts[kBlockRows];   ///< added to the currents
};

/// Currents on their way to memory.
struct Block {
  const BlockRows* rows = nullptr;  ///< null: nothing to do
  int first = 0;                    ///< output
  int columns = 0;                  ///< of 16 currents
  alignas(64) std::int32_t currents[kBlockRows][kBlockLanes];
};

/// How currents become what is added to the sums.
enum class Finish {
  kCurrents,     ///< no converter
  kPlainCodes,   ///< codes of 16 bits that are not clamped, of currents without a start
  kCodes,        ///< codes of 16 bits
  kColumnCodes,  ///< the same with a range per column
  kWideCodes,    ///< any codes
  kWideColumnCodes,
};

constexpr bool has_columns(Finish finish) {
  return finish == Finish::kColumnCodes || finish == Finish::kWideColumnCodes;
}
/// Codes are added by a product of 16-bit numbers.
constexpr bool is_narrow(Finish finish) {
  return finish == Finish::kPlainCodes || finish == Finish::kCodes || finish == Finish::kColumnCodes;
}

inline Finish finish_of(const TileArgs& args) {
  if (!args.convert) return Finish::kCurrents;
  const bool narrow = args.code_min >= std::numeric_limits<std::int16_t>::min() &&
                      args.code_max <= std::numeric_limits<std::int16_t>::max();
  if (args.column_lo != nullptr) return narrow ? Finish::kColumnCodes : Finish::kWideColumnCodes;
  if (!narrow) return Finish::kWideCodes;
  return args.clips || args.lo != 0 || args.cell_bias != 0 ? Finish::kCodes : Finish::kPlainCodes;
}

static_assert(sizeof(TileRow) == 16 && offsetof(TileRow, digit_sum) == 12 && offsetof(TileRow, shift) == 4 &&
              offsetof(TileRow, negative) == 8);

/// describe_rows() of sixteen rows.
template <Finish kFinish>
inline void describe_sixteen(const TileArgs& args, const TileRow* rows, std::int32_t* weights, std::int32_t* starts) {
  const __m512i row0 = _mm512_loadu_si512(rows);
  const __m512i row4 = _mm512_loadu_si512(rows + 4);
  const __m512i row8 = _mm512_loadu_si512(rows + 8);
  const __m512i row12 = _mm512_loadu_si512(rows + 12);
  // Shifts of eight rows, then whether they are negative.
  const __m512i pick = _mm512_setr_epi32(1, 5, 9, 13, 17, 21, 25, 29, 2, 6, 10, 14, 18, 22, 26, 30);
  const __m512i low = _mm512_permutex2var_epi32(row0, pick, row4);
  const __m512i high = _mm512_permutex2var_epi32(row8, pick, row12);
  const __m512i shift = _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
  const __m512i negative = _mm512_shuffle_i64x2(low, high, 0xEE);
  const auto all = static_cast<__mmask16>(args.negative ? 0xFFFF : 0);
  const auto subtracted = static_cast<__mmask16>(_mm512_test_epi32_mask(negative, negative) ^ all);
  const __m512i weight = _mm512_sllv_epi32(_mm512_set1_epi32(1), shift);
  const __m512i counted = _mm512_mask_sub_epi32(weight, subtracted, _mm512_setzero_si512(), weight);
  // The upper half of a lane must not count in a product of 16-bit numbers.
  const __m512i kept = _mm512_set1_epi32(is_narrow(kFinish) ? 0xFFFF : -1);
  _mm512_store_si512(weights, _mm512_and_si512(counted, kept));
  if constexpr (kFinish == Finish::kPlainCodes) return;
  const __m512i pick_sums = _mm512_setr_epi32(3, 7, 11, 15, 19, 23, 27, 31, 3, 7, 11, 15, 19, 23, 27, 31);
  const __m512i low_sums = _mm512_permutex2var_epi32(row0, pick_sums, row4);
  const __m512i high_sums = _mm512_permutex2var_epi32(row8, pick_sums, row12);
  const __m512i sums = _mm512_inserti64x4(low_sums, _mm512_castsi512_si256(high_sums), 1);
  const __m512i biased = _mm512_mullo_epi32(sums, _mm512_set1_epi32(args.cell_bias));
  _mm512_store_si512(starts, _mm512_sub_epi32(biased, _mm512_set1_epi32(args.lo)));
}

/// The rows from `rows` on.
/// @tparam kFinish  finish_of(args)
template <Finish kFinish>
inline void describe_rows(const TileArgs& args, const TileRow* rows, int count, BlockRows& block) {
  block.rows = rows;
  block.count = count;
  TileRow padded[kBlockRows];
  if (count < kBlockRows) {  // the last rows: what is beyond them does not count
    for (int r = 0; r < kBlockRows; ++r) padded[r] = rows[r < count ? r : 0];
    rows = padded;
  }
  for (int r = 0; r < kBlockRows; r += 16) {
    describe_sixteen<kFinish>(args, rows + r, block.weights + r, block.starts + r);
  }
}

/// The converter's constants, for the vectors of a block.
template <Finish kFinish, int kVectors>
struct Converter {
  __m512 inv_lsb[kVectors];
  __m512i lo[kVectors];
  __m512 lowest;
  __m512 highest;

  Converter(const TileArgs& args, int first) {
    lowest = _mm512_set1_ps(static_cast<float>(args.code_min));
    highest = _mm512_set1_ps(static_cast<float>(args.code_max));
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (has_columns(kFinish)) {
        inv_lsb[v] = _mm512_loadu_ps(args.column_inv_lsb + first + 16 * v);
        lo[v] = _mm512_loadu_si512(args.column_lo + first + 16 * v);
      } else {
        inv_lsb[v] = _mm512_set1_ps(args.inv_lsb);
      }
    }
  }

  /// Adds code * weight (modulo 2^32) of vector `v` of a row to `sum`.
  [[gnu::always_inline]] void add(int v, __m512i& sum, __m512i current, __m512i start, __m512i weight) const {
    if constexpr (kFinish != Finish::kPlainCodes) current = _mm512_add_epi32(current, start);
    if constexpr (kFinish == Finish::kCurrents) {
      sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(current, weight));
      return;
    }
    if constexpr (has_columns(kFinish)) current = _mm512_sub_epi32(current, lo[v]);
    __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(current), inv_lsb[v]);
    if constexpr (kFinish != Finish::kPlainCodes) value = _mm512_min_ps(_mm512_max_ps(value, lowest), highest);
    const __m512i code = _mm512_cvtps_epi32(value);  // half to even
    if constexpr (is_narrow(kFinish)) {
      // As assembly, since gcc 12 copies the sum around the intrinsic.
      asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(code), "v"(weight));
    } else {
      sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(code, weight));
    }
  }
};

/// Rows [begin, end) of a block. The codes of one input follow each other and are added up in registers.
/// @tparam kVectors  of 16 outputs
/// @tparam kParts  2: a current is the first vector plus 256 times the second
template <Finish kFinish, int kVectors, int kParts>
inline void finish_rows(const TileArgs& args, const Block& block, int begin, int end) {
  const Converter<kFinish, kVectors> converter(args, block.first);
  const TileRow* rows = block.rows->rows;
  for (int r = begin; r < end;) {
    const std::int32_t output_row = rows[r].output_row;
    int last = r + 1;
    while (last < end && rows[last].output_row == output_row) ++last;
    __m512i sum[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm512_setzero_si512();
    for (; r < last; ++r) {
      const __m512i weight = _mm512_set1_epi32(block.rows->weights[r]);
      const __m512i start = _mm512_set1_epi32(block.rows->starts[r]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        __m512i current = _mm512_load_si512(block.currents[r] + 16 * v);
        if constexpr (kParts == 2) {
          const __m512i high = _mm512_load_si512(block.currents[r] + kLaneWidth);
          current = _mm512_add_epi32(current, _mm512_slli_epi32(high, 8));
        }
        converter.add(v, sum[v], current, start, weight);
      }
    }
    std::int32_t* sums = args.sums + std::ptrdiff_t{output_row} * args.width + block.first;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      _mm512_storeu_si512(sums + 16 * v, _mm512_add_epi32(_mm512_loadu_si512(sums + 16 * v), sum[v]));
    }
  }
}

}  // namespace
}  // namespace cimq::kernels::cpu
