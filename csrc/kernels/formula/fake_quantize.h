// The formulas of LSQ fake quantisation, shared by host and device. T is float, double, or on the host a vector of them
// (the compilers' vector extension, for which `?:` selects lane by lane). Equal to quantize_value of common/rounding.h
// for every finite input: clamping to integer bounds and rounding commute.
#pragma once

#include "common/host_device.h"
#include "common/rounding.h"

namespace cimq::kernels {

/// Largest magnitude of a quantised value here; round_clamped needs far less than 2^22.
inline constexpr int kMaxQuantizedValue = 65535;

/// 1.5 * 2^(mantissa bits - 1): adding it to a value within +-2^21 leaves no fraction bits.
template <typename Element>
inline constexpr Element kRoundingShift = sizeof(Element) == 4 ? Element(12582912.0) : Element(6755399441055744.0);

/// Half-to-even rounding of a value within +-2^21; what rounds to zero becomes +0. By adding and subtracting a
/// constant: two additions that every vector unit has, where nearbyint is a library call without SSE4.1. On a device as
/// well, where rint would keep the sign of zero.
template <typename Element, typename T>
CIMQ_HOST_DEVICE inline T round_clamped(T u) {
  return (u + kRoundingShift<Element>)-kRoundingShift<Element>;
}

/// Keeps NaN.
template <typename T>
CIMQ_HOST_DEVICE inline T clamped(T u, T lo, T hi) {
  const T below = u < lo ? lo : u;
  return below > hi ? hi : below;
}

/// The integer of one value: rint(clamp(x / scale, lo, hi)), or for kBinary the sign, with 0 counted as positive.
/// NaN stays NaN (kBinary: becomes -1), so that a diverged training shows.
template <bool kBinary, typename Element, typename T>
CIMQ_HOST_DEVICE inline T quantized(T x, T scale, T lo, T hi) {
  if constexpr (kBinary) {
    return x >= T{} ? hi : lo;
  } else {
    return round_clamped<Element>(clamped<T>(x / scale, lo, hi));
  }
}

/// Gradients of x_hat = scale * quantized(x): straight through where the quantiser does not clip (bounds included).
template <typename T>
struct FakeQuantizeGradient {
  T x;      ///< d x_hat / d x: 1 or 0
  T scale;  ///< d x_hat / d scale: q - x/scale inside, the bound outside (LSQ, Esser et al. 2020, eq. 3)
  T level;  ///< q itself
};

template <bool kBinary, typename Element, typename T>
CIMQ_HOST_DEVICE inline FakeQuantizeGradient<T> fake_quantize_gradient(T x, T scale, T lo, T hi) {
  const T u = x / scale;
  const T c = clamped<T>(u, lo, hi);
  const T inside = u == c ? T{} + Element(1) : T{};
  if constexpr (kBinary) {
    // The sign does not depend on the scale, so that the scale's gradient is exact.
    const T level = x >= T{} ? hi : lo;
    return {inside, level, level};
  } else {
    const T level = round_clamped<Element>(c);
    return {inside, level - inside * u, level};
  }
}

}  // namespace cimq::kernels
