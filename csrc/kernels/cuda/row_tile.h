// Rows of values in shared memory, for sums whose order of additions is defined. All threads of a block bring a tile
// of rows in, then one lane per row adds up its own, ascending. A row that fits stays there for what comes after the
// sum; a longer one passes through in chunks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/rounding.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"

namespace cimq::kernels::cuda {

constexpr int kRowThreads = 256;
constexpr int kTileRows = 32;                ///< at most: the lanes of the warp that adds
constexpr int kTileBytes = 32 * 1024;        ///< so that several blocks of a multiprocessor add side by side
constexpr std::int64_t kBlocksToFill = 512;  ///< a few for each multiprocessor

/// How rows are shared out. A power of two of rows to a block.
struct RowPlan {
  int rows = 1;
  int threads = kRowThreads;  ///< that work on a row: a power of two, whole warps
  int chunk = 1;              ///< values of a row that are in the tile at once
  int stride = 1;             ///< from one row of the tile to the next: odd, so that the lanes read different banks

  int tile_values() const { return rows * stride; }
};

/// @tparam T  of the tile
template <typename T>
RowPlan row_plan(std::int64_t rows, std::int64_t n) {
  constexpr std::int64_t kValues = kTileBytes / static_cast<int>(sizeof(T));
  RowPlan plan;
  plan.rows = kTileRows;
  // Fewer rows where the tile then holds them whole, and where there would be too few blocks.
  while (plan.rows > 8 && plan.rows * n > kValues) plan.rows /= 2;
  while (plan.rows > 1 && rows < plan.rows * kBlocksToFill) plan.rows /= 2;
  plan.threads = std::max(32, kRowThreads / plan.rows);
  plan.chunk = static_cast<int>(std::min(n, kValues / plan.rows));
  plan.stride = plan.chunk | 1;
  return plan;
}

/// The grid of a plan; `extra_bytes` of shared memory follow the tile.
template <typename T = float>
Grid row_grid(const RowPlan& plan, std::int64_t rows, std::size_t extra_bytes = 0) {
  Grid grid = grid_of(ceil_div<std::int64_t>(rows, plan.rows), 1);
  grid.threads = dim3(kRowThreads);
  grid.shared_bytes = static_cast<std::size_t>(plan.tile_values()) * sizeof(T) + extra_bytes;
  return grid;
}

template <typename T>
class RowTile {
 public:
  __device__ __forceinline__ RowTile(const RowPlan& plan, std::int64_t rows, std::int64_t n, std::size_t offset = 0)
      : plan_(plan),
        n_(n),
        first_row_(std::int64_t{blockIdx.x} * plan.rows),
        rows_here_(static_cast<int>(rows - first_row_ < plan.rows ? rows - first_row_ : plan.rows)),
        tile_(shared_memory<T>(offset, plan.rows * plan.stride)) {}

  __device__ __forceinline__ int rows_here() const { return rows_here_; }

  /// The row that this thread adds up, if it has one.
  __device__ __forceinline__ bool has_row() const { return static_cast<int>(threadIdx.x) < rows_here_; }
  __device__ __forceinline__ int own() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ std::int64_t row() const { return first_row_ + own(); }
  __device__ __forceinline__ std::int64_t row(int row_here) const { return first_row_ + row_here; }

  /// Calls body(row of the tile, place in the tile, column of the row) for this thread's share of the chunk from
  /// `begin` on.
  template <typename Body>
  __device__ __forceinline__ void for_each(std::int64_t begin, const Body& body) const {
    const int count = count_of(begin);
    const int lane = static_cast<int>(threadIdx.x) & (plan_.threads - 1);
    for (int r = static_cast<int>(threadIdx.x) / plan_.threads; r < rows_here_; r += kRowThreads / plan_.threads) {
#pragma unroll 4
      for (int c = lane; c < count; c += plan_.threads) body(r, r * plan_.stride + c, begin + c);
    }
  }

  /// The chunk of every row from `begin` on: the tile gets of(row of the tile, index in the array of rows).
  template <typename Of>
  __device__ __forceinline__ void fill(std::int64_t begin, const Of& of) const {
    for_each(begin,
             [&](int r, int place, std::int64_t column) { tile_.store(place, of(r, (first_row_ + r) * n_ + column)); });
  }

  __device__ __forceinline__ T load(int place) const { return tile_.load(place); }

  /// Calls body(value) for the chunk of this thread's row, ascending.
  template <typename Body>
  __device__ __forceinline__ void for_each_of_own_row(std::int64_t begin, const Body& body) const {
    if (!has_row()) return;
    const int count = count_of(begin);
#pragma unroll 8
    for (int c = 0; c < count; ++c) body(tile_.load(own() * plan_.stride + c));
  }

 private:
  __device__ __forceinline__ int count_of(std::int64_t begin) const {
    return static_cast<int>(n_ - begin < plan_.chunk ? n_ - begin : plan_.chunk);
  }

  const RowPlan& plan_;
  std::int64_t n_;
  std::int64_t first_row_;
  int rows_here_;
  SharedArray<T> tile_;
};

}  // namespace cimq::kernels::cuda
