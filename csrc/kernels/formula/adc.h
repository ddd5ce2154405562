// The converter at the end of a column: one formula for every backend (docs/numbers.md).
#pragma once

#include <cstdint>

#include "common/host_device.h"
#include "common/rounding.h"

namespace cimq::kernels {

/// code = clamp(rint(float32(I - lo) * inv_lsb), code_min, code_max), half to even, one rounding per operation.
///
/// @param current  I - lo, in level units or in 1/256 level units when cells vary
/// @param inv_lsb  float32(1 / lsb) in the same units
/// The clamp comes before the rounding, where a value beyond int32 cannot reach the conversion; the bounds are
/// integers, so that the result is the same.
CIMQ_HOST_DEVICE inline std::int32_t adc_code(std::int32_t current, float inv_lsb, std::int32_t code_min,
                                              std::int32_t code_max) {
  const float value = static_cast<float>(current) * inv_lsb;
  const auto lowest = static_cast<float>(code_min);
  const auto highest = static_cast<float>(code_max);
  const float clamped = value < lowest ? lowest : (value > highest ? highest : value);
  return static_cast<std::int32_t>(round_half_even(clamped));
}

/// One conversion as training and diagnostics see it.
struct AdcConversion {
  float code;    ///< adc_code
  float scaled;  ///< float32(I - lo) * inv_lsb, kept within one code of the range
  bool below;    ///< the clamp raised the code: rint(scaled) < code_min
  bool above;    ///< the clamp lowered the code: rint(scaled) > code_max
};

/// The same conversion as adc_code, with what the clamp did. A current that rounds to the first or last code is not
/// clipped. Needs |code| <= 2^20, which every converter of at most 16 bits keeps.
CIMQ_HOST_DEVICE inline AdcConversion adc_convert(std::int32_t current, float inv_lsb, float code_min, float code_max) {
  const float value = static_cast<float>(current) * inv_lsb;
  const float near = value < code_min - 1.0F ? code_min - 1.0F : (value > code_max + 1.0F ? code_max + 1.0F : value);
  const float rounded = round_small_half_even(near);
  const float code = rounded < code_min ? code_min : (rounded > code_max ? code_max : rounded);
  return {code, near, rounded<code_min, rounded> code_max};
}

/// What a code is off, squared, in level units. lo and current in units of the current, of which one is `level` levels:
/// a power of two.
CIMQ_HOST_DEVICE inline double adc_squared_error(std::int32_t lo, double lsb, std::int32_t current, std::int32_t code,
                                                 double level) {
  const double error = lo * level + lsb * code - current * level;
  return error * error;
}

}  // namespace cimq::kernels
