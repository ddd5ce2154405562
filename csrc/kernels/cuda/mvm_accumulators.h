// What the tensor cores add up, the currents of one digit of a tile, and the converters of the crossbar product that
// empty them into the sums of a slice's codes.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/mvm_places.h"
#include "kernels/cuda/mvm_reads.h"
#include "kernels/formula/adc.h"

namespace cimq::kernels::cuda {

/// What variances need besides, where squares of digits have more than 8 bits: products of high bytes.
template <Cells kCells>
struct WideVariances {};
template <>
struct WideVariances<Cells::kReads> {
  std::int32_t of[kRowTiles][4];
};

template <Cells kCellsOf>
struct MvmCurrents {
  static constexpr Cells kCells = kCellsOf;
  static constexpr int kOutputTiles = kLineTiles / lines_of(kCells);

  const MvmArguments& arguments;
  /// Fragments as in mma.h; high bytes, low bytes, and those of variances, as kCells has them.
  std::int32_t currents[kRowTiles][kLineTiles][4];
  WideVariances<kCells> wide;

  /// Before the first stage, all threads. `keys_at`: where in shared memory the epilogue has read_key_bytes left.
  __device__ __forceinline__ void begin_reads(int keys_at) const {
    if constexpr (kCells == Cells::kReads) draw_read_keys(arguments, read_keys(keys_at));
  }

  /// A digit's currents are whole: adds what reading adds.
  __device__ __forceinline__ void read(const Stage& stage, int digit, int keys_at) {
    if constexpr (kCells == Cells::kReads) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int j = 0; j < 4; ++j) currents[m][0][j] = joined(currents[m][0][j], currents[m][1][j]);
      }
      const auto variance = [&](int m, int j) __attribute__((always_inline)) {
        std::int64_t sum = currents[m][3][j] + (std::int64_t{currents[m][2][j]} << 8);
        if (arguments.read.wide) sum += std::int64_t{wide.of[m][j]} << 16;
        return sum;
      };
      add_read_noise(
          arguments, read_keys(keys_at), stage, digit,
          [&](int m, int j) __attribute__((always_inline)) -> std::int32_t& { return currents[m][0][j]; }, variance);
    }
  }

  __device__ __forceinline__ static std::int32_t joined(std::int32_t high, std::int32_t low) {
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(high) << 8) + static_cast<std::uint32_t>(low));
  }

  /// The current of one output in its unit, modulo 2^32.
  __device__ __forceinline__ std::int32_t current(int m, int n, int j) const {
    if constexpr (kCells != Cells::kWords) return currents[m][n][j];  // read() has joined those of kReads
    return joined(currents[m][n][j], currents[m][n + kOutputTiles][j]);
  }

  /// Calls visit(n, parity, lo, inv_lsb, column) for the columns of the thread: elements j = parity and parity + 2 of
  /// tile n. `column`: among the ranges per column, where there are any.
  template <bool kByColumn, typename Visit>
  __device__ __forceinline__ void for_each_range(int slice, const Visit& visit) const {
    const int first_o = first_output<kCells>(arguments, this_thread());
#pragma unroll
    for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
      for (int parity = 0; parity < 2; ++parity) {
        std::int32_t lo = arguments.slice[slice].lo;
        float inv_lsb = arguments.slice[slice].inv_lsb;
        std::int64_t column = 0;
        if constexpr (kByColumn) {
          // Fresh: ranges are read where they are used.
          const int o = fresh(first_o) + output_offset(n, parity);
          column = column_index(arguments, slice, min(o, arguments.outputs - 1));
          lo = __ldg(arguments.column_lo + column);
          inv_lsb = __ldg(arguments.column_inv_lsb + column);
        }
        visit(n, parity, lo, inv_lsb, column);
      }
    }
  }
};

template <Cells kCells, Converter kConverter>
struct MvmAccumulators : MvmCurrents<kCells> {
  using MvmCurrents<kCells>::arguments;
  using MvmCurrents<kCells>::currents;
  using MvmCurrents<kCells>::kOutputTiles;
  /// Without a converter fractional currents add up beyond 32 bits.
  using Sum = std::conditional_t<kCells != Cells::kBytes && kConverter == Converter::kNone, std::int64_t, std::int32_t>;

  Sum sums[kRowTiles][kOutputTiles][4];

  /// What the currents of a tile start from.
  __device__ __forceinline__ std::int32_t start_of(int slice, const DigitArguments& digit) const {
    if constexpr (kConverter != Converter::kShifted) return 0;
    return static_cast<std::int32_t>(kShiftedBits -
                                     (static_cast<std::uint32_t>(arguments.slice[slice].lo) << digit.place));
  }

  __device__ __forceinline__ void start_sums() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[m][n][j] = 0;
      }
    }
  }

  /// Adds what the converters make of the currents; the second column of a pair counts negative.
  __device__ __forceinline__ void convert(const Stage& stage, int i) {
    this->read(stage, i, kSharedBytes);
    const DigitArguments& digit = arguments.digit[i];
    const int slice = stage.slice;
    const std::int32_t weight = stage.column == 0 ? digit.weight : -digit.weight;
    if constexpr (kConverter == Converter::kNone) {
      add_currents(weight);
    } else if constexpr (kConverter == Converter::kShifted) {
      const float inv_lsb = arguments.slice[slice].inv_lsb * digit.scale;
      if (arguments.clips) {
        add_shifted_codes<true>(weight, inv_lsb);
      } else {
        add_shifted_codes<false>(weight, inv_lsb);
      }
    } else {
      add_codes(slice, weight);
    }
  }

  __device__ __forceinline__ void add_currents(std::int32_t weight) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if constexpr (kCells != Cells::kBytes) {
            sums[m][n][j] += weight * Sum{this->current(m, n, j)};
          } else {
            add(sums[m][n][j], weight, currents[m][n][j]);
          }
        }
      }
    }
  }

  /// adc_code where the accumulator holds the bits of the float 1.5 * 2^23 + (I - lo) * 2^place: the difference of two
  /// floats is the exact float of I - lo, times 2^place; the power of two goes into inv_lsb; adding 1.5 * 2^23 rounds
  /// to an integer, half to even, and leaves the code in the low bits. Those of 1.5 * 2^23 are taken off the sum at its
  /// end.
  template <bool kClips>
  __device__ __forceinline__ void add_shifted_codes(std::int32_t weight, float inv_lsb) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float code = (__int_as_float(currents[m][n][j]) - kShiftedOrigin) * inv_lsb;
          if constexpr (kClips) code = fminf(fmaxf(code, arguments.lowest), arguments.highest);
          add(sums[m][n][j], weight, __float_as_int(code + kShiftedOrigin));
        }
      }
    }
  }

  __device__ __forceinline__ void add_codes(int slice, std::int32_t weight) {
    const std::int32_t lo = arguments.slice[slice].lo;
    const float inv_lsb = arguments.slice[slice].inv_lsb;
    if (arguments.column_lo == nullptr) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
        add_codes_of_column(n, 0, lo, inv_lsb, weight);
        add_codes_of_column(n, 1, lo, inv_lsb, weight);
      }
      return;
    }
    const int first_o = first_output<kCells>(arguments, this_thread());
#pragma unroll
    for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
      for (int parity = 0; parity < 2; ++parity) {
        const std::int64_t column =
            column_index(arguments, slice, min(first_o + output_offset(n, parity), arguments.outputs - 1));
        add_codes_of_column(n, parity, __ldg(arguments.column_lo + column), __ldg(arguments.column_inv_lsb + column),
                            weight);
      }
    }
  }

  __device__ __forceinline__ void add_codes_of_column(int n, int parity, std::int32_t lo, float inv_lsb,
                                                      std::int32_t weight) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int j = parity; j < 4; j += 2) {
        add(sums[m][n][j], weight,
            adc_code(this->current(m, n, j) - lo, inv_lsb, arguments.code_min, arguments.code_max));
      }
    }
  }

  /// Modulo 2^32: signed sums that leave it on the way come back.
  __device__ __forceinline__ static void add(Sum& sum, std::int32_t weight, std::int32_t value) {
    sum = static_cast<Sum>(static_cast<std::uint32_t>(sum) +
                           static_cast<std::uint32_t>(weight) * static_cast<std::uint32_t>(value));
  }
};

}  // namespace cimq::kernels::cuda
