// Where the rows of activations of a crossbar product come from and where its results go: a matrix, or the patches of
// images, which are gathered as they are needed (the im2col matrix never exists). Overloads by the kind of operands:
//   copy_row       begins to bring 16 activations of one row, `input` on, to shared memory; zeros from `end` on
//   first_result   index in y of output 0 of a row of the block's chip and group
//   result_step    from one output to the next
// Rows of groups, of which every group has a matrix, are for kernels that have results of other kinds.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/shared_memory.h"

namespace cimq::kernels::cuda {

__device__ __forceinline__ void copy_row(const MatrixArguments& matrix, const MvmArguments& arguments, std::int64_t row,
                                         int input, int end, SharedArray<std::uint8_t> to, int place) {
  const std::uint8_t* from = matrix.x + row * arguments.inputs;
  if (matrix.aligned) {
    copy_async(to, place, from + (input < end ? input : 0), input < end);
    return;
  }
#pragma unroll 1
  for (int word = 0; word < 16; word += 4) {
    std::uint32_t bytes = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int k = input + word + j;
      if (k < end) bytes |= std::uint32_t{from[k]} << (8 * j);
    }
    to.template store_as<std::uint32_t>(place + word, bytes);
  }
}

__device__ __forceinline__ std::int64_t first_result(const MatrixArguments& /*matrix*/, const MvmArguments& arguments,
                                                     std::int64_t row) {
  return (std::int64_t{static_cast<int>(blockIdx.y)} * arguments.rows + row) * arguments.outputs;
}

__device__ __forceinline__ std::int64_t result_step(const MatrixArguments& /*matrix*/) { return 1; }

__device__ __forceinline__ void copy_row(const GroupedRows& rows, const MvmArguments& arguments, std::int64_t row,
                                         int input, int end, SharedArray<std::uint8_t> to, int place) {
  // With 16 inputs at a time the rows of all groups are aligned like the first. The host has seen that 32 bits do.
  const int of_all = static_cast<int>(blockIdx.z) * static_cast<int>(arguments.rows) + static_cast<int>(row);
  copy_row(rows.first, arguments, of_all, input, end, to, place);
}

__device__ __forceinline__ void copy_row(const PatchArguments& patches, const MvmArguments& /*arguments*/,
                                         std::int64_t row, int input, int end, SharedArray<std::uint8_t> to,
                                         int place) {
  const int image = static_cast<int>(row) / patches.positions;
  const int position = static_cast<int>(row) % patches.positions;
  const int oy = position / patches.out_width;
  const int y0 = oy * patches.stride_y;
  const int x0 = (position - oy * patches.out_width) * patches.stride_x;
  const std::int64_t channel =
      std::int64_t{image} * patches.channels + std::int64_t{static_cast<int>(blockIdx.z)} * patches.group_channels;
  const std::int64_t plane = std::int64_t{patches.height} * patches.width;
  const std::uint8_t* from = patches.x + channel * plane;
#pragma unroll 1
  for (int word = 0; word < 16; word += 4) {
    std::uint32_t bytes = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int k = input + word + j;
      if (k >= end) continue;
      const int4 tap = __ldg(reinterpret_cast<const int4*>(patches.taps) + k);
      const int y = y0 + tap.y;
      const int x = x0 + tap.z;
      if (y < 0 || y >= patches.height || x < 0 || x >= patches.width) continue;  // padding
      bytes |= std::uint32_t{from[tap.x * plane + std::int64_t{y} * patches.width + x]} << (8 * j);
    }
    to.template store_as<std::uint32_t>(place + word, bytes);
  }
}

__device__ __forceinline__ std::int64_t first_result(const PatchArguments& patches, const MvmArguments& arguments,
                                                     std::int64_t row) {
  const int image = static_cast<int>(row) / patches.positions;
  const int position = static_cast<int>(row) % patches.positions;
  const std::int64_t of_chip = std::int64_t{static_cast<int>(blockIdx.y)} * patches.images + image;
  const std::int64_t channel = (of_chip * arguments.groups + static_cast<int>(blockIdx.z)) * arguments.outputs;
  return channel * patches.positions + position;
}

__device__ __forceinline__ std::int64_t result_step(const PatchArguments& patches) { return patches.positions; }

}  // namespace cimq::kernels::cuda
