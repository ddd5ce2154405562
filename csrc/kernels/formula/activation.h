// The formulas of activation functions, shared by host and device. Only +, -, *, / and comparisons of IEEE numbers,
// each rounded once, so that every machine gives the same bits: no exp of a mathematical library.
#pragma once

#include <bit>
#include <cstdint>

#include "common/host_device.h"
#include "common/rounding.h"
#include "kernels/formula/float_functions.h"

namespace cimq::kernels {

enum class Activation { kSigmoid, kSilu, kHardsigmoid, kHardswish, kTanh, kGelu, kGeluTanh, kElu };

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

/// -m / (2 + m) with m = exp(-2|x|) - 1, and x's sign.
CIMQ_HOST_DEVICE inline double tanh_of(double x) {
  const double m = expm1_negative(x < 0.0 ? 2.0 * x : -2.0 * x);
  const double size = -m / (2.0 + m);
  return x < 0.0 ? -size : size;
}

/// x * Phi(x), the probability that a normal variable is below x; of negative x without cancellation.
CIMQ_HOST_DEVICE inline double gelu_of(double x) {
  if (x <= -16.0) return -0.0;  // minus infinity must not become NaN
  return x < 0.0 ? x * normal_tail(-x) : x * (1.0 - normal_tail(x));
}

/// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) as x / (1 + exp(-z)), z twice the argument of tanh.
CIMQ_HOST_DEVICE inline double gelu_tanh_of(double x) {
  if (x < -100.0) return -0.0;
  const double cube = x * x * x;
  const double inner = x + 0.044715 * cube;
  const double z = 1.5957691216057308 * inner;
  const double e = exp_negative(z < 0.0 ? z : -z);
  return x * ((z < 0.0 ? e : 1.0) / (1.0 + e));
}

/// sigmoid, silu, tanh, gelu, gelu_tanh and the negative side of elu, alpha * (exp(x) - 1): float64 inside, rounded to
/// float32 once. hardsigmoid = min(max(x + 3, 0), 6) / 6 and hardswish = x * min(max(x + 3, 0), 6) / 6: float32, each
/// operation rounded once, from left to right. Only elu has an alpha. NaN gives NaN.
CIMQ_HOST_DEVICE inline float activate(Activation kind, float x, float alpha = 1.0F) {
  const auto value = static_cast<double>(x);
  switch (kind) {
    case Activation::kSigmoid:
      return static_cast<float>(sigmoid(value));
    case Activation::kSilu:
      // exp(-200) is not 0, but far out the product is; minus infinity must not become NaN either.
      return value < -200.0 ? -0.0F : static_cast<float>(value * sigmoid(value));
    case Activation::kTanh:
      return static_cast<float>(tanh_of(value));
    case Activation::kGelu:
      return static_cast<float>(gelu_of(value));
    case Activation::kGeluTanh:
      return static_cast<float>(gelu_tanh_of(value));
    case Activation::kElu:
      return x > 0.0F ? x : static_cast<float>(static_cast<double>(alpha) * expm1_negative(value));
    case Activation::kHardsigmoid:
    case Activation::kHardswish:
      break;
  }
  const float shifted = x + 3.0F;
  const float below = shifted < 0.0F ? 0.0F : shifted;
  const float gate = below > 6.0F ? 6.0F : below;
  if (kind == Activation::kHardsigmoid) return gate / 6.0F;
  const float product = x * gate;
  return product / 6.0F;
}

}  // namespace cimq::kernels
