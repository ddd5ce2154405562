// The formulas of activation functions, shared by host and device. Only +, -, *, / and comparisons of IEEE numbers,
// each rounded once, so that every machine gives the same bits: no exp of a mathematical library.
#pragma once

#include <bit>
#include <cstdint>

#include "common/host_device.h"
#include "common/rounding.h"

namespace cimq::kernels {

enum class Activation { kSigmoid, kSilu, kHardsigmoid, kHardswish };

/// 2^n for -1022 <= n <= 1023.
CIMQ_HOST_DEVICE inline double power_of_two(std::int64_t n) {
  const std::int64_t bits = (n + 1023) << 52;
#if defined(__CUDA_ARCH__)
  return __longlong_as_double(bits);
#else
  return std::bit_cast<double>(bits);
#endif
}

/// exp(t) for t <= 0, to about 1e-16 relative; below -200 it is exp(-200), which no float32 can tell from 0.
/// t = n * ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, so that n times the first is exact), then the Taylor
/// polynomial of degree 13 in Horner's form, whose remainder is below 1e-17.
CIMQ_HOST_DEVICE inline double exp_of_negative(double t) {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double bounded = t < -200.0 ? -200.0 : t;
  const double n = round_half_even(bounded * kLog2E);
  const double high = n * kLn2High;
  const double low = n * kLn2Low;
  const double r = (bounded - high) - low;
  double sum = 1.0;
  for (int k = 13; k >= 1; --k) {
    const double term = sum * r;
    sum = 1.0 + term / static_cast<double>(k);
  }
  return sum * power_of_two(static_cast<std::int64_t>(n));
}

/// 1 / (1 + exp(-x)) in float64; NaN stays NaN.
CIMQ_HOST_DEVICE inline double sigmoid(double x) {
  if (x != x) return x;
  const double e = exp_of_negative(x < 0.0 ? x : -x);
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

/// sigmoid and silu: float64 inside, rounded to float32 once. hardsigmoid = min(max(x + 3, 0), 6) / 6 and
/// hardswish = x * min(max(x + 3, 0), 6) / 6: float32, each operation rounded once, from left to right.
CIMQ_HOST_DEVICE inline float activate(Activation kind, float x) {
  if (kind == Activation::kSigmoid) return static_cast<float>(sigmoid(static_cast<double>(x)));
  if (kind == Activation::kSilu) {
    const double value = static_cast<double>(x);
    // exp(-200) is not 0, but far out the product is; minus infinity must not become NaN either.
    return value < -200.0 ? -0.0F : static_cast<float>(value * sigmoid(value));
  }
  const float shifted = x + 3.0F;
  const float below = shifted < 0.0F ? 0.0F : shifted;
  const float gate = below > 6.0F ? 6.0F : below;
  if (kind == Activation::kHardsigmoid) return gate / 6.0F;
  const float product = x * gate;
  return product / 6.0F;
}

}  // namespace cimq::kernels
