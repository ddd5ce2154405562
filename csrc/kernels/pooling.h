// Average pooling with a fixed order of summation, so that training, conversion and the executor agree bit for bit.
#pragma once

#include <cstdint>

namespace cimq::kernels {

/// x [n, c, h, w] -> y [n, c, out_h, out_w], out = (size + 2 * pad - kernel) / stride + 1 rounded down.
/// The sum is taken in float32 over kernel rows, then kernel columns, ascending, over the elements inside the image;
/// then one division by their number, or by that of the window inside the padded image when `count_include_pad`.
/// Throws cimq::Error for impossible sizes and for padding larger than half the kernel.
void avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t kernel_h,
                std::int64_t kernel_w, std::int64_t stride_h, std::int64_t stride_w, std::int64_t pad_h,
                std::int64_t pad_w, bool count_include_pad, float* y);

}  // namespace cimq::kernels
