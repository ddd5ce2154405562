// Read noise of the currents in a block of the crossbar product: the words and the formula of
// kernels/noise/read_noise.h. Variances come out of the tensor cores as currents do: squares of digits times the
// variances of the cells.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/mvm_places.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels::cuda {

/// Words 0, 1 and 3 of the key of every row's access, [3][kBlockRows]; word 2 enters nowhere.
using ReadKeys = SharedArray<std::uint32_t>;
__device__ __forceinline__ ReadKeys read_keys(int offset) {
  return shared_memory<std::uint32_t>(offset, kReadKeyWords * kBlockRows);
}

/// All threads, before the barrier of the first stage. Rows beyond the last one repeat it.
__device__ __forceinline__ void draw_read_keys(const MvmArguments& arguments, ReadKeys keys) {
  const ReadArguments& read = arguments.read;
  const int row = this_thread();
  if (row >= kBlockRows) return;
  const std::int64_t of_call = first_row(arguments) + row;
  const std::int64_t access = of_call < arguments.rows ? of_call : arguments.rows - 1;
  const PhiloxCounter key = access_key(read.seed, read.first_chip + static_cast<std::uint32_t>(this_chip()), read.layer,
                                       read.first_access + static_cast<std::uint64_t>(access));
  keys.store(row, key.word[0]);
  keys.store(kBlockRows + row, key.word[1]);
  keys.store(2 * kBlockRows + row, key.word[3]);
}

/// Not an index, which would keep the words in memory.
__device__ __forceinline__ std::uint32_t word_of(const PhiloxCounter& words, std::uint32_t place) {
  const std::uint32_t even = (place & 2U) != 0 ? words.word[2] : words.word[0];
  const std::uint32_t odd = (place & 2U) != 0 ? words.word[3] : words.word[1];
  return (place & 1U) != 0 ? odd : even;
}

/// The squares of four digits, `high`: their high bytes, else their low bytes.
template <bool kHigh>
__device__ __forceinline__ std::uint32_t squares_of(std::uint32_t four) {
  std::uint32_t bytes = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const std::uint32_t digit = four >> (8 * j) & 0xffU;
    const std::uint32_t square = digit * digit;
    bytes |= (kHigh ? square >> 8 : square & 0xffU) << (8 * j);
  }
  return bytes;
}

/// Adds noise to the currents of a digit that are whole. `visit(m, j)` gives the current of an element by reference,
/// `variance(m, j)` its variance; the thread has two columns, those of even and of odd j.
template <typename Current, typename Variance>
__device__ __forceinline__ void add_read_noise(const MvmArguments& arguments, ReadKeys keys, const Stage& stage,
                                               int digit, const Current& current, const Variance& variance) {
  const ReadArguments& read = arguments.read;
  const bool apart = arguments.columns == 2;
  const std::uint32_t step = apart ? 2 : 1;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int id = this_thread();  // fresh: places are computed where they are used
      const int row = warp_row(id) + m * 16 + half * 8 + id % 32 / 4;
      const PhiloxCounter key = {{keys.load(row), keys.load(kBlockRows + row), 0U, keys.load(2 * kBlockRows + row)}};
      const std::int64_t output =
          read.first_output + column_index(arguments, first_output<Cells::kReads>(arguments, id));
      const std::uint64_t column = cimq::kernels::column_index(apart, output, stage.column);
      const auto place = static_cast<std::uint32_t>(column & 3U);
      PhiloxCounter words = column_words(key, column >> 2, stage.tile, digit, stage.slice);
#pragma unroll
      for (int parity = 0; parity < 2; ++parity) {
        if (parity == 1 && place + step > 3) {
          words = column_words(key, (column >> 2) + 1, stage.tile, digit, stage.slice);
        }
        const int j = 2 * half + parity;
        const std::uint32_t word = word_of(words, parity == 0 ? place : place + step);
        const std::int32_t sample = quantile_sample(read.nodes, word);
        std::int32_t& noisy = current(m, j);
        noisy = static_cast<std::int32_t>(noisy + column_noise(variance(m, j), sample, read.sample_bits));
      }
    }
  }
}

}  // namespace cimq::kernels::cuda
