// Where a thread of the crossbar product works, and when. Computed where it is used, as registers are what the kernel
// is short of.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mvm_arguments.h"

namespace cimq::kernels::cuda {

constexpr int kRowTiles = kBlockRows / 2 / 16;  ///< of 16 rows, per warp
constexpr int kLineTiles = kWarpLines / 8;      ///< of 8 lines, per warp

/// The work between two barriers.
struct Stage {
  int slice = 0;
  int column = 0;
  int tile = 0;
  int digit = 0;  ///< of a tile with several chunks; else all digits are worked on at once
  int chunk = 0;
};

__device__ __forceinline__ int this_thread() { return fresh(static_cast<int>(threadIdx.x)); }
__device__ __forceinline__ int this_chip() { return static_cast<int>(blockIdx.y); }
__device__ __forceinline__ int this_group() { return static_cast<int>(blockIdx.z); }

/// First row and line of a thread's warp within the block.
__device__ __forceinline__ int warp_row(int thread) { return thread / 64 * (kBlockRows / 2); }
__device__ __forceinline__ int warp_line(int thread) { return thread / 32 % 2 * kWarpLines; }

/// First line and row of the block. Blocks that are neighbours in the grid share their rows.
__device__ __forceinline__ int first_line(const MvmArguments& arguments) {
  return fresh(static_cast<int>(blockIdx.x)) % (arguments.lines / kBlockLines) * kBlockLines;
}
__device__ __forceinline__ std::int64_t first_row(const MvmArguments& arguments) {
  return std::int64_t{fresh(static_cast<int>(blockIdx.x)) / (arguments.lines / kBlockLines)} * kBlockRows;
}

/// Output of element 0 of tile 0 of a thread; element j of tile n is output_offset(n, j) on.
template <Cells kCells>
__device__ __forceinline__ int first_output(const MvmArguments& arguments, int thread) {
  const int line = first_line(arguments) + warp_line(thread);
  return line / lines_of(kCells) + thread % 4 * 2;
}
__device__ __forceinline__ int output_offset(int n, int j) { return n * 8 + j % 2; }

/// Of an output in arrays [groups][outputs] and [groups][slices][outputs].
__device__ __forceinline__ std::int64_t column_index(const MvmArguments& arguments, int o) {
  return std::int64_t{this_group()} * arguments.outputs + o;
}
__device__ __forceinline__ std::int64_t column_index(const MvmArguments& arguments, int slice, int o) {
  return (std::int64_t{this_group()} * arguments.slices + slice) * arguments.outputs + o;
}

/// Sums of activations wait in shared memory, [warps][kBlockRows / 2]: row 16 m + 8 half + lane / 4 of the warp.
__device__ __forceinline__ int row_sum_place(int thread, int m, int half) {
  return thread / 32 * (kBlockRows / 2) + m * 16 + half * 8 + thread % 32 / 4;
}

}  // namespace cimq::kernels::cuda
