#include "kernels/pooling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/error.h"

namespace cimq::kernels::cpu {
namespace {

float max_of(const float* plane, std::int64_t w, const AxisWindow& rows, const AxisWindow& columns) {
  float best = -std::numeric_limits<float>::infinity();
  for (std::int64_t y = rows.begin; y < rows.end; ++y) {
    for (std::int64_t x = columns.begin; x < columns.end; ++x) {
      const float value = plane[y * w + x];
      if (value > best || std::isnan(value)) best = value;
    }
  }
  return best;
}

/// Calls of(plane, rows, columns) for every window of every plane, in the order of y.
template <typename Of>
void adaptive(const char* op, const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
              std::int64_t out_h, std::int64_t out_w, float* y, const Of& of) {
  check_adaptive_pool(op, n, c, h, w, out_h, out_w);
  for (std::int64_t image = 0; image < n * c; ++image, x += h * w) {
    for (std::int64_t oy = 0; oy < out_h; ++oy) {
      const AxisWindow rows = adaptive_axis(oy, h, out_h);
      for (std::int64_t ox = 0; ox < out_w; ++ox) *y++ = of(x, rows, adaptive_axis(ox, w, out_w));
    }
  }
}

/// A loop of dimensions over an array: extents and strides.
struct Loops {
  std::vector<std::int64_t> extent, stride;

  void add(std::int64_t size, std::int64_t step) {
    extent.push_back(size);
    stride.push_back(step);
  }

  void reverse() {
    std::reverse(extent.begin(), extent.end());
    std::reverse(stride.begin(), stride.end());
  }

  template <typename Body>
  void run(std::int64_t offset, const Body& body, std::size_t dim = 0) const {
    if (dim == extent.size()) return body(offset);
    for (std::int64_t i = 0; i < extent[dim]; ++i) run(offset + i * stride[dim], body, dim + 1);
  }
};

}  // namespace

void avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Pool2d& pool,
                float* y) {
  const PooledImage out = avg_pooled_image(n, c, h, w, pool);
  for (std::int64_t image = 0; image < n * c; ++image, x += h * w) {
    for (std::int64_t oy = 0; oy < out.h; ++oy) {
      const AxisWindow rows = pool_axis(oy, h, pool.kernel_h, pool.stride_h, pool.pad_h);
      for (std::int64_t ox = 0; ox < out.w; ++ox) {
        const AxisWindow columns = pool_axis(ox, w, pool.kernel_w, pool.stride_w, pool.pad_w);
        *y++ = window_average(x, w, rows, columns, pool_divisor(pool, rows, columns));
      }
    }
  }
}

void adaptive_avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y) {
  adaptive("adaptive_avg_pool2d", x, n, c, h, w, out_h, out_w, y,
           [w](const float* plane, const AxisWindow& rows, const AxisWindow& columns) {
             return window_average(plane, w, rows, columns, static_cast<float>(rows.padded * columns.padded));
           });
}

void adaptive_max_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y) {
  adaptive("adaptive_max_pool2d", x, n, c, h, w, out_h, out_w, y,
           [w](const float* plane, const AxisWindow& rows, const AxisWindow& columns) {
             return max_of(plane, w, rows, columns);
           });
}

void mean(const float* x, std::span<const std::int64_t> shape, std::span<const std::int64_t> dims, float* y) {
  std::vector<char> reduced(shape.size(), 0);
  std::int64_t count = 1;
  for (const std::int64_t dim : dims) {
    check(dim >= 0 && dim < static_cast<std::int64_t>(shape.size()), "mean: dimensions must be in 0 .. ",
          static_cast<std::int64_t>(shape.size()) - 1, ", got ", dim);
    const auto at = static_cast<std::size_t>(dim);
    check(reduced[at] == 0, "mean: dimension ", dim, " is named twice");
    check(shape[at] >= 1, "mean: a dimension to average must have an element, dimension ", dim, " has none");
    reduced[at] = 1;
    count *= shape[at];
  }
  Loops kept, summed;
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    (reduced[i] != 0 ? summed : kept).add(shape[i], stride);
    stride *= shape[i];
  }
  kept.reverse();
  summed.reverse();
  kept.run(0, [&](std::int64_t base) {
    double sum = 0.0;
    summed.run(base, [&](std::int64_t place) { sum += static_cast<double>(x[place]); });
    *y++ = static_cast<float>(sum / static_cast<double>(count));
  });
}

}  // namespace cimq::kernels::cpu
