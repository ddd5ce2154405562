// Pooling and means with a fixed order of summation, so that training, conversion and the executor agree bit for bit.
#pragma once

#include <cstdint>
#include <span>

namespace cimq::kernels {

/// Windows of pooling over [h, w].
struct Pool2d {
  std::int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  bool ceil_mode = false;         ///< a last window that hangs over the image counts too
  bool count_include_pad = true;  ///< average: padding counts in the divisor
  std::int64_t divisor = 0;       ///< average: what is divided by; 0 for the number of elements
};

/// Window i of `out` that share an axis of `size` elements: from floor(i * size / out) to ceil((i + 1) * size / out).
constexpr std::int64_t adaptive_begin(std::int64_t i, std::int64_t size, std::int64_t out) { return i * size / out; }
constexpr std::int64_t adaptive_end(std::int64_t i, std::int64_t size, std::int64_t out) {
  return ((i + 1) * size - 1) / out + 1;
}

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
}  // namespace cimq::kernels
