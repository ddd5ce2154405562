#include <limits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/image_places.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_tile.h"
#include "kernels/formula/float_functions.h"
#include "kernels/softmax.h"

namespace cimq::kernels::cuda {
namespace {

// Device code cannot call numeric_limits, but it can read constants.
constexpr float kInfinity = std::numeric_limits<float>::infinity();

__device__ __forceinline__ float larger(float value, float largest) { return value > largest ? value : largest; }

__device__ __forceinline__ double shifted_by(float value, float largest) {
  return static_cast<double>(value) - static_cast<double>(largest);
}

__device__ __forceinline__ float result_of(bool logarithm, double shifted, double sum, double log_sum) {
  return static_cast<float>(logarithm ? shifted - log_sum : exp_negative(shifted) / sum);
}

/// The largest value of every row of the block, in `largest`; `of_warps` has one value for each warp of each row. The
/// order does not matter: NaN, which no comparison sees, and the sign of zero are lost in the sum that follows.
__device__ __forceinline__ void find_largest(const float* x, std::int64_t n, const RowPlan& plan, int rows_here,
                                             std::int64_t first_row, const SharedArray<float>& of_warps,
                                             const SharedArray<float>& largest) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread & (plan.threads - 1);
  const int warps_of_row = plan.threads / 32;
  for (int r = thread / plan.threads; r < rows_here; r += kRowThreads / plan.threads) {
    const float* const row = x + (first_row + r) * n;
    float found = -kInfinity;
#pragma unroll 4
    for (std::int64_t c = lane; c < n; c += plan.threads) found = larger(__ldg(row + c), found);
#pragma unroll
    for (int delta = 16; delta > 0; delta /= 2) found = larger(__shfl_xor_sync(0xffffffffU, found, delta), found);
    if (thread % 32 == 0) of_warps.store(r * warps_of_row + lane / 32, found);
  }
  __syncthreads();
  if (thread < rows_here) {
    float found = of_warps.load(thread * warps_of_row);
    for (int i = 1; i < warps_of_row; ++i) found = larger(of_warps.load(thread * warps_of_row + i), found);
    largest.store(thread, found);
  }
  __syncthreads();
}

/// Rows of n values. All threads compute exponentials into the tile, a lane adds up its row's; a tile that holds whole
/// rows keeps them for the result.
template <bool kLogarithm>
__global__ void __launch_bounds__(kRowThreads, 4)
    softmax_rows(const float* x, std::int64_t rows, std::int64_t n, RowPlan plan, float* y) {
  const SharedArray<double> sums = shared_memory<double>(0, kTileRows);
  const SharedArray<float> largest = shared_memory<float>(kTileRows * sizeof(double), kTileRows);
  const SharedArray<float> of_warps = shared_memory<float>(kTileRows * (sizeof(double) + sizeof(float)), kTileRows);
  const RowTile<double> tile(plan, rows, n, kTileRows * (sizeof(double) + 2 * sizeof(float)));
  find_largest(x, n, plan, tile.rows_here(), tile.row(0), of_warps, largest);
  double sum = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += plan.chunk) {
    if (begin > 0) __syncthreads();  // the tile before has been added up
    tile.fill(begin, [&](int r, std::int64_t at) { return exp_negative(shifted_by(__ldg(x + at), largest.load(r))); });
    __syncthreads();
    tile.for_each_of_own_row(begin, [&](double value) { sum += value; });
  }
  if (tile.has_row()) sums.store(tile.own(), kLogarithm ? log_positive(sum) : sum);
  __syncthreads();
  const bool whole = plan.chunk >= n;
  for (std::int64_t begin = 0; begin < n; begin += plan.chunk) {
    tile.for_each(begin, [&](int r, int place, std::int64_t column) {
      const std::int64_t at = tile.row(r) * n + column;
      if (!kLogarithm && whole) {
        y[at] = static_cast<float>(tile.load(place) / sums.load(r));
      } else {
        y[at] = result_of(kLogarithm, shifted_by(__ldg(x + at), largest.load(r)), sums.load(r), sums.load(r));
      }
    });
  }
}

/// A thread has one line of x [outer, n, inner], with neighbours in neighbouring threads.
template <bool kLogarithm, typename Index>
__global__ void __launch_bounds__(kImageThreads)
    softmax_columns(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, float* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kImageThreads + threadIdx.x;
  if (item >= outer * inner) return;
  const ImagePlace place = image_place<Index>(item, 1, inner);
  const std::int64_t first = place.plane * n * inner + place.column;
  float largest = -kInfinity;
#pragma unroll 4
  for (std::int64_t i = 0; i < n; ++i) largest = larger(x[first + i * inner], largest);
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += exp_negative(shifted_by(x[first + i * inner], largest));
  const double log_sum = kLogarithm ? log_positive(sum) : 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t at = first + i * inner;
    y[at] = result_of(kLogarithm, shifted_by(x[at], largest), sum, log_sum);
  }
}

}  // namespace

void softmax(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, bool logarithm, float* y,
             Stream stream) {
  if (outer == 0 || n == 0 || inner == 0) return;
  Work work = {"softmax", "softmax_rows", {{{"outer", outer}, {"values", n}, {"inner", inner}}}};
  if (inner == 1) {
    const RowPlan plan = row_plan<double>(outer, n);
    launch(work, row_grid<double>(plan, outer, kTileRows * (sizeof(double) + 2 * sizeof(float))), stream,
           logarithm ? softmax_rows<true> : softmax_rows<false>, x, outer, n, plan, y);
    return;
  }
  work.kernel = "softmax_columns";
  launch_on_images(work, outer * inner, stream,
                   logarithm ? softmax_columns<true, std::uint32_t> : softmax_columns<false, std::uint32_t>,
                   logarithm ? softmax_columns<true, std::uint64_t> : softmax_columns<false, std::uint64_t>, x, outer,
                   n, inner, y);
}

}  // namespace cimq::kernels::cuda
