// Windows of pooling and their averages, shared by host and device. Sums of float32 in one order, each addition rounded
// once.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace cimq::kernels {

/// Windows of pooling over [h, w].
struct Pool2d {
  std::int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  bool ceil_mode = false;         ///< a last window that hangs over the image counts too
  bool count_include_pad = true;  ///< average: padding counts in the divisor
  std::int64_t divisor = 0;       ///< average: what is divided by; 0 for the number of elements
};

/// What a window has of one axis.
struct AxisWindow {
  std::int64_t begin, end;  ///< elements inside the image
  std::int64_t padded;      ///< how many it has of the padded image
};

/// Window i of an axis of `size` elements.
CIMQ_HOST_DEVICE inline AxisWindow pool_axis(std::int64_t i, std::int64_t size, std::int64_t kernel,
                                             std::int64_t stride, std::int64_t pad) {
  const std::int64_t first = i * stride - pad;
  const std::int64_t last = first + kernel;
  const std::int64_t padded_end = last < size + pad ? last : size + pad;
  return {first > 0 ? first : 0, last < size ? last : size, padded_end - first};
}

/// Window i of `out` that share an axis of `size` elements: from floor(i * size / out) to ceil((i + 1) * size / out).
CIMQ_HOST_DEVICE constexpr std::int64_t adaptive_begin(std::int64_t i, std::int64_t size, std::int64_t out) {
  return i * size / out;
}
CIMQ_HOST_DEVICE constexpr std::int64_t adaptive_end(std::int64_t i, std::int64_t size, std::int64_t out) {
  return ((i + 1) * size - 1) / out + 1;
}
CIMQ_HOST_DEVICE inline AxisWindow adaptive_axis(std::int64_t i, std::int64_t size, std::int64_t out) {
  const std::int64_t begin = adaptive_begin(i, size, out);
  const std::int64_t end = adaptive_end(i, size, out);
  return {begin, end, end - begin};
}

/// What the sum of a window is divided by.
CIMQ_HOST_DEVICE inline float pool_divisor(const Pool2d& pool, const AxisWindow& rows, const AxisWindow& columns) {
  if (pool.divisor > 0) return static_cast<float>(pool.divisor);
  const std::int64_t elements =
      pool.count_include_pad ? rows.padded * columns.padded : (rows.end - rows.begin) * (columns.end - columns.begin);
  return static_cast<float>(elements);
}

/// The sum over rows, then columns, ascending, of a plane of width w, divided once.
CIMQ_HOST_DEVICE inline float window_average(const float* plane, std::int64_t w, const AxisWindow& rows,
                                             const AxisWindow& columns, float divisor) {
  float sum = 0.0F;
  for (std::int64_t y = rows.begin; y < rows.end; ++y) {
    for (std::int64_t x = columns.begin; x < columns.end; ++x) sum += plane[y * w + x];
  }
  return sum / divisor;
}

}  // namespace cimq::kernels
