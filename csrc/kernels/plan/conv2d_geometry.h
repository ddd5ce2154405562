// Shapes of a 2-D convolution, and which of them are possible.
#pragma once

#include <cstdint>

namespace cimq::kernels {

struct Conv2dGeometry {
  std::int64_t in_channels = 1;
  std::int64_t out_channels = 1;
  std::int64_t kernel_h = 1;
  std::int64_t kernel_w = 1;
  std::int64_t stride_h = 1;
  std::int64_t stride_w = 1;
  std::int64_t pad_top = 0;
  std::int64_t pad_bottom = 0;
  std::int64_t pad_left = 0;
  std::int64_t pad_right = 0;
  std::int64_t dilation_h = 1;
  std::int64_t dilation_w = 1;
  std::int64_t groups = 1;

  std::int64_t out_h(std::int64_t h) const {
    return (h + pad_top + pad_bottom - dilation_h * (kernel_h - 1) - 1) / stride_h + 1;
  }
  std::int64_t out_w(std::int64_t w) const {
    return (w + pad_left + pad_right - dilation_w * (kernel_w - 1) - 1) / stride_w + 1;
  }
  std::int64_t inputs_per_output() const { return in_channels / groups * kernel_h * kernel_w; }
};

/// Refuses impossible geometry, naming `op` and the field.
void check_geometry(const Conv2dGeometry& geometry, const char* op);
/// Refuses an image that is smaller than the kernel (or empty).
void check_image(const Conv2dGeometry& geometry, std::int64_t h, std::int64_t w, const char* op);

}  // namespace cimq::kernels
