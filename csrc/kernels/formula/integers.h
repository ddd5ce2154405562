// Integers that come as values of any type: which integer a value stands for, and whether it is one. Host and device.
#pragma once

#include <cstdint>

#include "common/host_device.h"
#include "common/rounding.h"

namespace cimq::kernels {

/// What a value may be off its integer, which allows for the rounding of (q * scale) / scale.
constexpr double kIntegerTolerance = 1.0 / 1024.0;

/// A value beside the integer next to it.
struct NearestInteger {
  float integer;
  float error;
  int bad;  ///< 1: out of lo..hi or the tolerance, or NaN; an int, so that loops over floats become vector loops
};

/// Without branches. The rounding is right for the magnitudes that matter; larger ones stay out of range.
[[gnu::always_inline]] CIMQ_HOST_DEVICE inline NearestInteger nearest_integer(float value, float lo, float hi) {
  constexpr auto kTolerance = static_cast<float>(kIntegerTolerance);
  const float nearest = round_small_half_even(value);
  const float error = value - nearest;
  const bool fine = (nearest >= lo) & (nearest <= hi) & (error <= kTolerance) & (error >= -kTolerance);
  return {nearest, error, static_cast<int>(!fine)};
}

/// The integer of a value within lo..hi, else 0: an integer of NaN is undefined.
[[gnu::always_inline]] CIMQ_HOST_DEVICE inline std::int32_t integer_or_zero(const NearestInteger& value, float lo,
                                                                            float hi) {
  return static_cast<std::int32_t>(value.integer >= lo ? (value.integer <= hi ? value.integer : 0.0F) : 0.0F);
}

}  // namespace cimq::kernels
