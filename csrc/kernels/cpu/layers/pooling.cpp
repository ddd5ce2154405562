#include "kernels/pooling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/error.h"
#include "common/pooled_size.h"

namespace cimq::kernels::cpu {
namespace {

void check_image(const char* op, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  check(n >= 0 && c >= 0 && h >= 1 && w >= 1, op, ": x must be [n, c, h, w] with h and w at least 1, got [", n, ", ", c,
        ", ", h, ", ", w, "]");
}

void check_pool(const Pool2d& pool, std::int64_t out_h, std::int64_t out_w, std::int64_t h, std::int64_t w) {
  check(pool.pad_h >= 0 && pool.pad_w >= 0 && 2 * pool.pad_h <= pool.kernel_h && 2 * pool.pad_w <= pool.kernel_w,
        "avg_pool2d: padding must be at most half the kernel, got ", pool.pad_h, " x ", pool.pad_w, " for a kernel of ",
        pool.kernel_h, " x ", pool.kernel_w);
  check(pool.divisor >= 0, "avg_pool2d: the divisor must be positive, got ", pool.divisor);
  check(out_h >= 1 && out_w >= 1, "avg_pool2d: the padded image must be at least as large as the kernel (",
        pool.kernel_h, " x ", pool.kernel_w, "), got an image of ", h, " x ", w);
}

/// Sum of the rectangle, rows then columns.
float sum_of(const float* plane, std::int64_t w, std::int64_t top, std::int64_t bottom, std::int64_t left,
             std::int64_t right) {
  float sum = 0.0F;
  for (std::int64_t y = top; y < bottom; ++y) {
    for (std::int64_t x = left; x < right; ++x) sum += plane[y * w + x];
  }
  return sum;
}

float max_of(const float* plane, std::int64_t w, std::int64_t top, std::int64_t bottom, std::int64_t left,
             std::int64_t right) {
  float best = -std::numeric_limits<float>::infinity();
  for (std::int64_t y = top; y < bottom; ++y) {
    for (std::int64_t x = left; x < right; ++x) {
      const float value = plane[y * w + x];
      if (value > best || std::isnan(value)) best = value;
    }
  }
  return best;
}

/// Calls of(plane, top, bottom, left, right) for every window of every plane, in the order of y.
template <typename Of>
void adaptive(const char* op, const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
              std::int64_t out_h, std::int64_t out_w, float* y, const Of& of) {
  check_image(op, n, c, h, w);
  check(out_h >= 1 && out_w >= 1, op, ": the result must have at least one row and column, got ", out_h, " x ", out_w);
  for (std::int64_t image = 0; image < n * c; ++image, x += h * w) {
    for (std::int64_t oy = 0; oy < out_h; ++oy) {
      for (std::int64_t ox = 0; ox < out_w; ++ox) {
        *y++ = of(x, adaptive_begin(oy, h, out_h), adaptive_end(oy, h, out_h), adaptive_begin(ox, w, out_w),
                  adaptive_end(ox, w, out_w));
      }
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
  check_image("avg_pool2d", n, c, h, w);
  check(pool.kernel_h >= 1 && pool.kernel_w >= 1 && pool.stride_h >= 1 && pool.stride_w >= 1,
        "avg_pool2d: kernel and stride must be at least 1, got kernel ", pool.kernel_h, " x ", pool.kernel_w,
        ", stride ", pool.stride_h, " x ", pool.stride_w);
  const std::int64_t out_h = pooled_size(h, pool.kernel_h, pool.stride_h, pool.pad_h, 1, pool.ceil_mode);
  const std::int64_t out_w = pooled_size(w, pool.kernel_w, pool.stride_w, pool.pad_w, 1, pool.ceil_mode);
  check_pool(pool, out_h, out_w, h, w);
  for (std::int64_t image = 0; image < n * c; ++image, x += h * w) {
    for (std::int64_t oy = 0; oy < out_h; ++oy) {
      const std::int64_t first_row = oy * pool.stride_h - pool.pad_h;
      const std::int64_t top = std::max<std::int64_t>(0, first_row);
      const std::int64_t bottom = std::min(h, first_row + pool.kernel_h);
      const std::int64_t rows = std::min(first_row + pool.kernel_h, h + pool.pad_h) - first_row;
      for (std::int64_t ox = 0; ox < out_w; ++ox) {
        const std::int64_t first_column = ox * pool.stride_w - pool.pad_w;
        const std::int64_t left = std::max<std::int64_t>(0, first_column);
        const std::int64_t right = std::min(w, first_column + pool.kernel_w);
        const std::int64_t columns = std::min(first_column + pool.kernel_w, w + pool.pad_w) - first_column;
        const std::int64_t elements = pool.count_include_pad ? rows * columns : (bottom - top) * (right - left);
        const std::int64_t count = pool.divisor > 0 ? pool.divisor : elements;
        *y++ = sum_of(x, w, top, bottom, left, right) / static_cast<float>(count);
      }
    }
  }
}

void adaptive_avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y) {
  adaptive("adaptive_avg_pool2d", x, n, c, h, w, out_h, out_w, y,
           [w](const float* plane, std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right) {
             const auto count = static_cast<float>((bottom - top) * (right - left));
             return sum_of(plane, w, top, bottom, left, right) / count;
           });
}

void adaptive_max_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y) {
  adaptive("adaptive_max_pool2d", x, n, c, h, w, out_h, out_w, y,
           [w](const float* plane, std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right) {
             return max_of(plane, w, top, bottom, left, right);
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
