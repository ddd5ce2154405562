// Pooling and means with a fixed order of summation, so that training, conversion and the executor agree bit for bit.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/stream.h"
#include "kernels/formula/pooling.h"

namespace cimq::kernels {

/// Rows and columns of the result of pooling.
struct PooledImage {
  std::int64_t h = 0, w = 0;
};

/// Of avg_pool2d. Throws cimq::Error for impossible sizes and for padding larger than half the kernel.
PooledImage avg_pooled_image(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Pool2d& pool);

/// Throws cimq::Error, which names `op`, for impossible sizes of adaptive pooling.
void check_adaptive_pool(const char* op, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w);

namespace cpu {

/// x [n, c, h, w] -> y [n, c, out_h, out_w], out = pooled_size(...) (common/pooled_size.h).
/// The sum is taken in float32 over kernel rows, then kernel columns, ascending, over the elements inside the image;
/// then one division by their number, by that of the window inside the padded image when `count_include_pad`, or by
/// `divisor`. Throws cimq::Error for impossible sizes and for padding larger than half the kernel.
void avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Pool2d& pool,
                float* y);

/// x [n, c, h, w] -> y [n, c, out_h, out_w]. Sum and division as in avg_pool2d, windows as PyTorch's adaptive pooling.
/// Throws cimq::Error for impossible sizes.
void adaptive_avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y);

/// The largest value of each of these windows; NaN wins, as in PyTorch.
void adaptive_max_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y);

/// Mean over the dimensions `dims` of x, an array of `shape` in C order; y has the others, in C order.
/// The sum is taken in float64 in the order of memory, one division by the number of elements follows, and one rounding
/// to float32. Throws cimq::Error unless every one of `dims` is a dimension, named once, with an element.
void mean(const float* x, std::span<const std::int64_t> shape, std::span<const std::int64_t> dims, float* y);

}  // namespace cpu

// The same bits on the device that is current; calls return before the work is done. Also throw LaunchError.
namespace cuda {

void avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Pool2d& pool,
                float* y, Stream stream);

void adaptive_avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w, float* y, Stream stream);

/// Mean over the middle of x [outer, n, inner] in C order; y [outer, inner]. n must be at least 1.
void mean(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, float* y, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
