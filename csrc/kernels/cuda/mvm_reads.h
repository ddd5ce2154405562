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
__device__ __forceinline__ SharedArray<std::uint32_t> read_keys() {
  return shared_memory<std::uint32_t>(kReadKeys, kReadKeyWords * kBlockRows);
}

/// All threads, before the barrier of the first stage. Rows beyond the last one repeat it.
__device__ __forceinline__ void draw_read_keys(const MvmArguments& arguments) {
  const ReadArguments& read = arguments.read;
  const int row = this_thread();
  if (row >= kBlockRows) return;
  const std::int64_t of_call = first_row(arguments) + row;
  const std::int64_t access = of_call < arguments.rows ? of_call : arguments.rows - 1;
  const PhiloxCounter key = access_key(read.seed, read.first_chip + static_cast<std::uint32_t>(this_chip()), read.layer,
                                       read.first_access + static_cast<std::uint64_t>(access));
  read_keys().store(row, key.word[0]);
  read_keys().store(kBlockRows + row, key.word[1]);
  read_keys().store(2 * kBlockRows + row, key.word[3]);
}

/// Not an index, which would keep the words in memory.
__device__ __forceinline__ std::uint32_t word_of(const PhiloxCounter& words, std::uint64_t column) {
  const std::uint32_t even = (column & 2U) != 0 ? words.word[2] : words.word[0];
  const std::uint32_t odd = (column & 2U) != 0 ? words.word[3] : words.word[1];
  return (column & 1U) != 0 ? odd : even;
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
__device__ __forceinline__ void add_read_noise(const MvmArguments& arguments, const Stage& stage, int digit,
                                               const Current& current, const Variance& variance) {
  const ReadArguments& read = arguments.read;
  const int id = this_thread();
  const std::int64_t output = read.first_output + column_index(arguments, first_output<Cells::kReads>(arguments, id));
  const bool apart = arguments.columns == 2;
  const std::uint64_t column[2] = {cimq::kernels::column_index(apart, output, stage.column),
                                   cimq::kernels::column_index(apart, output + 1, stage.column)};
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row(id) + m * 16 + half * 8 + id % 32 / 4;
      const PhiloxCounter key = {
          {read_keys().load(row), read_keys().load(kBlockRows + row), 0U, read_keys().load(2 * kBlockRows + row)}};
      PhiloxCounter words = column_words(key, column[0] >> 2, stage.tile, digit, stage.slice);
#pragma unroll
      for (int parity = 0; parity < 2; ++parity) {
        if (parity == 1 && column[1] >> 2 != column[0] >> 2) {
          words = column_words(key, column[1] >> 2, stage.tile, digit, stage.slice);
        }
        const int j = 2 * half + parity;
        const std::int32_t sample = quantile_sample(read.nodes, word_of(words, column[parity]));
        std::int32_t& noisy = current(m, j);
        noisy = static_cast<std::int32_t>(noisy + column_noise(variance(m, j), sample, read.sample_bits));
      }
    }
  }
}

}  // namespace cimq::kernels::cuda
