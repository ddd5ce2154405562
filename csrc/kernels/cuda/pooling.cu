#include <array>

#include "common/error.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/image_places.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_tile.h"
#include "kernels/pooling.h"

namespace cimq::kernels::cuda {
namespace {

/// Images [planes, h, w] and the size of their results.
struct PooledImages {
  std::int64_t planes, h, w, out_h, out_w;
  __device__ __forceinline__ std::int64_t elements() const { return planes * out_h * out_w; }
};

template <typename Index>
__global__ void __launch_bounds__(kImageThreads)
    average_windows(const float* x, PooledImages images, Pool2d pool, float* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kImageThreads + threadIdx.x;
  if (item >= images.elements()) return;
  const ImagePlace place = image_place<Index>(item, images.out_h, images.out_w);
  const AxisWindow rows = pool_axis(place.row, images.h, pool.kernel_h, pool.stride_h, pool.pad_h);
  const AxisWindow columns = pool_axis(place.column, images.w, pool.kernel_w, pool.stride_w, pool.pad_w);
  y[item] =
      window_average(x + place.plane * images.h * images.w, images.w, rows, columns, pool_divisor(pool, rows, columns));
}

template <typename Index>
__global__ void __launch_bounds__(kImageThreads)
    average_adaptive_windows(const float* x, PooledImages images, float* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kImageThreads + threadIdx.x;
  if (item >= images.elements()) return;
  const ImagePlace place = image_place<Index>(item, images.out_h, images.out_w);
  const AxisWindow rows = adaptive_axis(place.row, images.h, images.out_h);
  const AxisWindow columns = adaptive_axis(place.column, images.w, images.out_w);
  y[item] = window_average(x + place.plane * images.h * images.w, images.w, rows, columns,
                           static_cast<float>(rows.padded * columns.padded));
}

/// Means of rows of n values, added up as Sum: double for means, float for a window that is a whole image.
template <typename Sum>
__global__ void __launch_bounds__(kRowThreads)
    average_rows(const float* x, std::int64_t rows, std::int64_t n, RowPlan plan, float* y) {
  const RowTile<float> tile(plan, rows, n);
  Sum sum = 0;
  for (std::int64_t begin = 0; begin < n; begin += plan.chunk) {
    if (begin > 0) __syncthreads();  // the tile before has been added up
    tile.fill(begin, [&](int /*r*/, std::int64_t at) { return __ldg(x + at); });
    __syncthreads();
    tile.for_each_of_own_row(begin, [&](float value) { sum += static_cast<Sum>(value); });
  }
  if (tile.has_row()) y[tile.row()] = static_cast<float>(sum / static_cast<Sum>(n));
}

/// A thread adds up one line: x [outer, n, inner] with neighbours in neighbouring threads.
template <typename Index>
__global__ void __launch_bounds__(kImageThreads)
    average_columns(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, float* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kImageThreads + threadIdx.x;
  if (item >= outer * inner) return;
  const ImagePlace place = image_place<Index>(item, 1, inner);
  const float* from = x + place.plane * n * inner + place.column;
  double sum = 0.0;
#pragma unroll 4
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(__ldg(from + i * inner));
  y[item] = static_cast<float>(sum / static_cast<double>(n));
}

Work work_of(const char* op, const char* kernel, const PooledImages& images) {
  return {op,
          kernel,
          {{{"planes", images.planes},
            {"height", images.h},
            {"width", images.w},
            {"rows of the result", images.out_h},
            {"columns of the result", images.out_w}}}};
}

template <typename Sum>
void launch_rows(const Work& work, const float* x, std::int64_t rows, std::int64_t n, float* y, Stream stream) {
  if (rows == 0) return;
  const RowPlan plan = row_plan<float>(rows, n);
  launch(work, row_grid(plan, rows), stream, average_rows<Sum>, x, rows, n, plan, y);
}

}  // namespace

void avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Pool2d& pool,
                float* y, Stream stream) {
  const PooledImage out = avg_pooled_image(n, c, h, w, pool);
  const PooledImages images = {n * c, h, w, out.h, out.w};
  launch_on_images(work_of("avg_pool2d", "average_windows", images), n * c * out.h * out.w, stream,
                   average_windows<std::uint32_t>, average_windows<std::uint64_t>, x, images, pool, y);
}

void adaptive_avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y, Stream stream) {
  check_adaptive_pool("adaptive_avg_pool2d", n, c, h, w, out_h, out_w);
  const PooledImages images = {n * c, h, w, out_h, out_w};
  if (out_h == 1 && out_w == 1) {
    // A window of the whole image is a row in memory: its values come in together, where a thread would fetch one by
    // one.
    launch_rows<float>(work_of("adaptive_avg_pool2d", "average_rows", images), x, n * c, h * w, y, stream);
    return;
  }
  launch_on_images(work_of("adaptive_avg_pool2d", "average_adaptive_windows", images), n * c * out_h * out_w, stream,
                   average_adaptive_windows<std::uint32_t>, average_adaptive_windows<std::uint64_t>, x, images, y);
}

void mean(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, float* y, Stream stream) {
  check(outer >= 0 && n >= 1 && inner >= 0, "mean: needs at least one value, got [", outer, ", ", n, ", ", inner, "]");
  const std::array<NamedSize, 6> sizes = {{{"outer", outer}, {"values", n}, {"inner", inner}}};
  if (inner == 1) {
    launch_rows<double>({"mean", "average_rows", sizes}, x, outer, n, y, stream);
    return;
  }
  launch_on_images({"mean", "average_columns", sizes}, outer * inner, stream, average_columns<std::uint32_t>,
                   average_columns<std::uint64_t>, x, outer, n, inner, y);
}

}  // namespace cimq::kernels::cuda
