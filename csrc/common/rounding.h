// The one place that defines rounding: half to even, one rounding per operation (docs/numbers.md).
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace cimq {

/// Rounds to the nearest integer, ties to even. Needs the default floating-point environment.
CIMQ_HOST_DEVICE inline float round_half_even(float x) {
#if defined(__CUDA_ARCH__)
  return rintf(x);
#else
  return std::nearbyintf(x);
#endif
}

CIMQ_HOST_DEVICE inline double round_half_even(double x) {
#if defined(__CUDA_ARCH__)
  return rint(x);
#else
  return std::nearbyint(x);
#endif
}

/// The same for |x| <= 2^21, and +0 for what rounds to zero, on host and device. Two additions, which every vector unit
/// has, where nearbyint is a library call without SSE4.1.
CIMQ_HOST_DEVICE inline float round_small_half_even(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: no fraction bits are left
  return (x + kShift) - kShift;
}

/// ceil(numerator / denominator) for non-negative integers; no float, so no surprise at large values.
template <typename Int>
CIMQ_HOST_DEVICE constexpr Int ceil_div(Int numerator, Int denominator) {
  return (numerator + denominator - 1) / denominator;
}

/// Quantises one value: clamp(rint(x / scale), lo, hi) in float32, the division correctly rounded.
/// The same formula in fake quantisation, in the converted model and in the executor. NaN must be refused before.
CIMQ_HOST_DEVICE inline float quantize_value(float x, float scale, float lo, float hi) {
  const float q = round_half_even(x / scale);
  return q < lo ? lo : (q > hi ? hi : q);
}

}  // namespace cimq
