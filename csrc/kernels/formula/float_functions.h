// exp, expm1, log, erf and the normal distribution in float64 for the float32 functions around the crossbars. Only +,
// -, *, / and comparisons of IEEE numbers, each rounded once and in the order written: every machine gives the same
// bits, and no mathematical library is asked. Errors are below 1e-13 relative, so that a result rounded to float32 once
// is the correctly rounded one but for ties missed by a hair.
#pragma once

#include <bit>
#include <cstdint>

#include "common/host_device.h"

namespace cimq::kernels {

CIMQ_HOST_DEVICE inline double double_of_bits(std::int64_t bits) {
#if defined(__CUDA_ARCH__)
  return __longlong_as_double(bits);
#else
  return std::bit_cast<double>(bits);
#endif
}

CIMQ_HOST_DEVICE inline std::int64_t bits_of_double(double value) {
#if defined(__CUDA_ARCH__)
  return __double_as_longlong(value);
#else
  return std::bit_cast<std::int64_t>(value);
#endif
}

/// c[0] + x * (c[1] + x * (c[2] + ...)), from the last coefficient.
template <int kCount>
CIMQ_HOST_DEVICE inline double polynomial(const double (&c)[kCount], double x) {
  double sum = c[kCount - 1];
  for (int k = kCount - 2; k >= 0; --k) {
    const double product = sum * x;
    sum = product + c[k];
  }
  return sum;
}

/// exp(t) for t <= 0; below -700 it is exp(-700), which no float32 can tell from 0. NaN stays NaN.
/// t = n * ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, so that n times the first is exact), then the Taylor
/// polynomial of degree 13. n is rounded by adding 1.5 * 2^52, after which no fraction is left.
CIMQ_HOST_DEVICE inline double exp_negative(double t) {
  constexpr double kInverseFactorials[14] = {1.0,
                                             1.0,
                                             0.5,
                                             0.16666666666666666,
                                             0.041666666666666664,
                                             0.008333333333333333,
                                             0.001388888888888889,
                                             0.0001984126984126984,
                                             2.48015873015873e-05,
                                             2.7557319223985893e-06,
                                             2.755731922398589e-07,
                                             2.505210838544172e-08,
                                             2.08767569878681e-09,
                                             1.6059043836821613e-10};
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  constexpr double kShift = 6755399441055744.0;
  if (t != t) return t;
  const double bounded = t < -700.0 ? -700.0 : t;
  const double scaled = bounded * kLog2E;
  const double n = (scaled + kShift) - kShift;
  const double high = n * kLn2High;
  const double low = n * kLn2Low;
  const double r = (bounded - high) - low;
  const double power = double_of_bits((static_cast<std::int64_t>(n) + 1023) << 52);
  return polynomial(kInverseFactorials, r) * power;
}

/// exp(t) - 1 for t <= 0, accurate near 0 as well: t * (1 + t / 2 * (1 + t / 3 * ...)) where the difference would
/// cancel.
CIMQ_HOST_DEVICE inline double expm1_negative(double t) {
  constexpr double kSeries[14] = {1.0,
                                  0.5,
                                  0.16666666666666666,
                                  0.041666666666666664,
                                  0.008333333333333333,
                                  0.001388888888888889,
                                  0.0001984126984126984,
                                  2.48015873015873e-05,
                                  2.7557319223985893e-06,
                                  2.755731922398589e-07,
                                  2.505210838544172e-08,
                                  2.08767569878681e-09,
                                  1.6059043836821613e-10,
                                  1.1470745597729725e-11};
  return t > -0.35 ? t * polynomial(kSeries, t) : exp_negative(t) - 1.0;
}

/// ln(x) for normal x > 0 (the sums of softmax): x = m * 2^n with m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh(s)
/// with s = (m - 1) / (m + 1), |s| <= 0.172, as its series to s^21.
CIMQ_HOST_DEVICE inline double log_positive(double x) {
  constexpr double kSeries[11] = {2.0,
                                  0.6666666666666666,
                                  0.4,
                                  0.2857142857142857,
                                  0.2222222222222222,
                                  0.18181818181818182,
                                  0.15384615384615385,
                                  0.13333333333333333,
                                  0.11764705882352941,
                                  0.10526315789473684,
                                  0.09523809523809523};
  constexpr double kLn2 = 0.6931471805599453;
  constexpr std::int64_t kSqrtHalf = 0x3FE6A09E667F3BCD;  // bits of sqrt(1/2)
  if (x != x) return x;
  const std::int64_t bits = bits_of_double(x);
  const std::int64_t n = (bits - kSqrtHalf) >> 52;
  const double m = double_of_bits(bits - n * (std::int64_t{1} << 52));
  const double s = (m - 1.0) / (m + 1.0);
  const double of_m = s * polynomial(kSeries, s * s);
  const double of_power = static_cast<double>(n) * kLn2;
  return of_power + of_m;
}

/// Phi(-t) for t >= 0, the probability that a normal variable exceeds t; 0 from t = 16, which no float32 can tell.
/// exp(-t^2 / 2) * P(u) / (t + 4) with u = (t - 4) / (t + 4); P interpolates the quotient at the 17 Chebyshev nodes of
/// 0 <= t <= 16 (found with 40 digits), relative error 2e-14.
CIMQ_HOST_DEVICE inline double normal_tail(double t) {
  constexpr double kP[17] = {
      0.7552851304157631,     -0.6078966419717914,     0.3871374007393473,     -0.18652185796690476,
      0.06039657500651644,    -0.007540188785345338,   -0.0034796941325191087, 0.0016308160750685573,
      0.00013335743490280644, -0.00023107679217554018, -1.959816195053925e-06, 3.5063829132105766e-05,
      8.198389979594855e-07,  -5.714963773841885e-06,  -7.048533270264077e-07, 7.476063877027151e-07,
      2.223971307654665e-07,
  };
  if (t >= 16.0) return 0.0;
  const double shifted = t + 4.0;
  const double u = (t - 4.0) / shifted;
  const double half_square = t * t * -0.5;
  const double density = exp_negative(half_square);
  return density * polynomial(kP, u) / shifted;
}

/// erf(x): 1 - 2 Phi(-sqrt(2) |x|) with x's sign, and its Taylor series to x^27 for |x| < 1/2, where the difference
/// would cancel. NaN stays NaN.
CIMQ_HOST_DEVICE inline double erf_of(double x) {
  constexpr double kSeries[14] = {
      1.1283791670955126,     -0.37612638903183754,    0.11283791670955126,    -0.026866170645131252,
      0.005223977625442188,   -0.0008548327023450852,  0.00012055332981789664, -1.492565035840625e-05,
      1.6462114365889246e-06, -1.6365844691234924e-07, 1.4807192815879218e-08, -1.2290555301717926e-09,
      9.422759064650411e-11,  -6.7113668551641105e-12,
  };
  constexpr double kSqrt2 = 1.4142135623730951;
  const double size = x < 0.0 ? -x : x;
  if (size < 0.5) return x * polynomial(kSeries, x * x);
  const double value = 1.0 - 2.0 * normal_tail(size * kSqrt2);
  return x < 0.0 ? -value : value;
}

}  // namespace cimq::kernels
