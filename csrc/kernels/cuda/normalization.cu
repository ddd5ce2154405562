#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_tile.h"
#include "kernels/formula/normalization.h"
#include "kernels/normalization.h"

namespace cimq::kernels::cuda {
namespace {

/// Which weight and bias a value has: rows are groups of `channels` channels with `inner` values each, and the groups
/// of a sample follow one another. Layer normalisation: one group, whose values are channels.
struct Affine {
  const float* weight;
  const float* bias;
  std::int64_t groups;
  std::int64_t channels;
  std::int64_t inner;

  __device__ __forceinline__ std::int64_t channel(std::int64_t row, std::int64_t column) const {
    const std::int64_t first = row % groups * channels;
    if (inner == 1) return first + column;
    constexpr std::int64_t kNarrow = 0xffffffff;  // a division of 64 bits takes longer than the rest
    return first + (column <= kNarrow && inner <= kNarrow
                        ? std::int64_t{static_cast<std::uint32_t>(column) / static_cast<std::uint32_t>(inner)}
                        : column / inner);
  }
};

/// The tile keeps rows that fit it; others come from memory once for each sum and once for the result.
__global__ void __launch_bounds__(kRowThreads) normalise_rows(const float* x, std::int64_t rows, std::int64_t n,
                                                              RowPlan plan, Affine affine, double eps, float* y) {
  const std::size_t moments_at = 0;  // of every row of the tile, before the tile
  const SharedArray<double> means = shared_memory<double>(moments_at, kTileRows);
  const SharedArray<double> inverses = shared_memory<double>(kTileRows * sizeof(double), kTileRows);
  const RowTile<float> tile(plan, rows, n, 2 * kTileRows * sizeof(double));
  const bool whole = plan.chunk >= n;
  const auto fill = [&](std::int64_t begin) {
    tile.fill(begin, [&](int /*r*/, std::int64_t at) { return __ldg(x + at); });
  };
  double sum = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += plan.chunk) {
    if (begin > 0) __syncthreads();  // the tile before has been read
    fill(begin);
    __syncthreads();
    tile.for_each_of_own_row(begin, [&](float value) { sum += static_cast<double>(value); });
  }
  const double mean = sum / static_cast<double>(n);
  double squares = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += plan.chunk) {
    if (!whole) {
      __syncthreads();
      fill(begin);
      __syncthreads();
    }
    tile.for_each_of_own_row(begin, [&](float value) { squares += squared_difference(value, mean); });
  }
  if (tile.has_row()) {
    means.store(tile.own(), mean);
    inverses.store(tile.own(), inverse_deviation(squares / static_cast<double>(n), eps));
  }
  __syncthreads();
  for (std::int64_t begin = 0; begin < n; begin += plan.chunk) {
    tile.for_each(begin, [&](int r, int place, std::int64_t column) {
      const std::int64_t row = tile.row(r);
      const std::int64_t at = row * n + column;
      const float value = whole ? tile.load(place) : __ldg(x + at);
      const std::int64_t channel = affine.channel(row, column);
      y[at] = normalised(value, {means.load(r), inverses.load(r)}, value_or(affine.weight, channel, 1.0),
                         value_or(affine.bias, channel, 0.0));
    });
  }
}

void normalise(const Work& work, const float* x, std::int64_t rows, std::int64_t n, const Affine& affine, double eps,
               float* y, Stream stream) {
  if (rows == 0) return;
  const RowPlan plan = row_plan<float>(rows, n);
  launch(work, row_grid(plan, rows, 2 * kTileRows * sizeof(double)), stream, normalise_rows, x, rows, n, plan, affine,
         eps, y);
}

}  // namespace

void layer_norm(const float* x, std::int64_t rows, std::int64_t n, const float* weight, const float* bias, double eps,
                float* y, Stream stream) {
  check_layer_norm(rows, n);
  normalise({"layer_norm", "normalise_rows", {{{"rows", rows}, {"values", n}}}}, x, rows, n, {weight, bias, 1, n, 1},
            eps, y, stream);
}

void group_norm(const float* x, std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups,
                const float* weight, const float* bias, double eps, float* y, Stream stream) {
  check_group_norm(batch, channels, inner, groups);
  const std::int64_t size = channels / groups;
  normalise({"group_norm",
             "normalise_rows",
             {{{"batch", batch}, {"channels", channels}, {"inner", inner}, {"groups", groups}}}},
            x, batch * groups, size * inner, {weight, bias, groups, size, inner}, eps, y, stream);
}

}  // namespace cimq::kernels::cuda
