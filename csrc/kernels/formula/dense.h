// Sums of products of layers that stay in float32, shared by host and device: float64, rounded to float32 once.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace cimq::kernels {

/// sum + a * b for values of float32, whose product float64 holds: one rounding, whether it is fused or not.
CIMQ_HOST_DEVICE inline double plus_product(double sum, double a, double b) {
#if defined(__CUDA_ARCH__)
  return fma(a, b, sum);
#else
  return sum + a * b;
#endif
}

/// The result of output o; bias may be null.
CIMQ_HOST_DEVICE inline float rounded_sum(double sum, const float* bias, std::int64_t o) {
  return static_cast<float>(bias == nullptr ? sum : sum + static_cast<double>(bias[o]));
}

}  // namespace cimq::kernels
