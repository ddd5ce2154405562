// The loops of fake_quantize.cpp in vectors of 16 floats, with the same bits: a lane of the sum is the lane of one of
// the four vectors of four there, and the rest is added in the same order. For processors with `avx512`; elsewhere they
// do nothing and return 0.
#pragma once

#include <cstdint>

namespace cimq::kernels::cpu {

/// y = scale * rint(clamp(x / scale, lo, hi)) for count / 16 * 16 values; returns that number.
std::int64_t fake_quantize_avx512(const float* x, std::int64_t count, float scale, float lo, float hi, float* y);

/// The bytes of rint(clamp(x / scale, lo, hi)) + shift for count / 16 * 16 values; returns that number. `finite`
/// becomes false if one was NaN or infinite.
std::int64_t quantize_avx512(const float* x, std::int64_t count, float scale, float lo, float hi, std::uint8_t* q,
                             int shift, bool& finite);

/// fake_quantize_backward for count / 16 * 16 values; returns that number. `levels` may be null.
std::int64_t fake_quantize_backward_avx512(const float* grad, const float* x, std::int64_t count, float scale, float lo,
                                           float hi, float* dx, float* levels, double& total);

}  // namespace cimq::kernels::cpu
