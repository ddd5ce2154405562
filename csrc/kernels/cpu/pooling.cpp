#include "kernels/pooling.h"

#include <algorithm>

#include "common/error.h"

namespace cimq::kernels {

void avg_pool2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t kernel_h,
                std::int64_t kernel_w, std::int64_t stride_h, std::int64_t stride_w, std::int64_t pad_h,
                std::int64_t pad_w, bool count_include_pad, float* y) {
  check(n >= 0 && c >= 0 && h >= 1 && w >= 1, "avg_pool2d: x must be [n, c, h, w] with h and w at least 1, got [", n,
        ", ", c, ", ", h, ", ", w, "]");
  check(kernel_h >= 1 && kernel_w >= 1 && stride_h >= 1 && stride_w >= 1,
        "avg_pool2d: kernel and stride must be at least 1, got kernel ", kernel_h, " x ", kernel_w, ", stride ",
        stride_h, " x ", stride_w);
  check(pad_h >= 0 && pad_w >= 0 && 2 * pad_h <= kernel_h && 2 * pad_w <= kernel_w,
        "avg_pool2d: padding must be at most half the kernel, got ", pad_h, " x ", pad_w, " for a kernel of ", kernel_h,
        " x ", kernel_w);
  check(h + 2 * pad_h >= kernel_h && w + 2 * pad_w >= kernel_w,
        "avg_pool2d: the padded image must be at least as large as the kernel (", kernel_h, " x ", kernel_w,
        "), got an image of ", h, " x ", w);
  const std::int64_t out_h = (h + 2 * pad_h - kernel_h) / stride_h + 1;
  const std::int64_t out_w = (w + 2 * pad_w - kernel_w) / stride_w + 1;
  for (std::int64_t image = 0; image < n * c; ++image, x += h * w) {
    for (std::int64_t oy = 0; oy < out_h; ++oy) {
      const std::int64_t top = std::max<std::int64_t>(0, oy * stride_h - pad_h);
      const std::int64_t bottom = std::min(h, oy * stride_h - pad_h + kernel_h);
      for (std::int64_t ox = 0; ox < out_w; ++ox) {
        const std::int64_t left = std::max<std::int64_t>(0, ox * stride_w - pad_w);
        const std::int64_t right = std::min(w, ox * stride_w - pad_w + kernel_w);
        float sum = 0.0F;
        for (std::int64_t iy = top; iy < bottom; ++iy) {
          for (std::int64_t ix = left; ix < right; ++ix) sum += x[iy * w + ix];
        }
        const std::int64_t count = count_include_pad ? kernel_h * kernel_w : (bottom - top) * (right - left);
        *y++ = sum / static_cast<float>(count);
      }
    }
  }
}

}  // namespace cimq::kernels
