// LSQ fake quantisation of a run of values that share one scale. One pass over memory each way.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/float16.h"
#include "kernels/cuda/stream.h"

namespace cimq::kernels {

/// Integer range of a quantiser. `binary`: only lo and hi occur, chosen by the sign (1-bit weights: -1, +1).
struct QuantRange {
  int lo = 0;
  int hi = 0;
  bool binary = false;
};

/// What values that are stored as T are computed in: float, for double double. Results are rounded to T at the end.
template <typename T>
using Computed = std::conditional_t<std::is_same_v<T, double>, double, float>;

namespace cpu {

/// x_hat = scale * clamp(rint(x / scale), lo, hi). `y` may be `x`. T: float, double, BFloat16, Float16.
template <typename T>
void fake_quantize(const T* x, std::int64_t count, Computed<T> scale, const QuantRange& range, T* y);

/// dx = grad where x is not clipped, else 0; returns sum of grad * d x_hat / d scale. The order of the sum depends on
/// `count` alone. `dx` may be `grad`. `levels`, if not null, gets the integers x_hat / scale (16-bit T hold them up to
/// 256 and 2048). T: float, double, BFloat16, Float16.
template <typename T>
double fake_quantize_backward(const T* grad, const T* x, std::int64_t count, Computed<T> scale, const QuantRange& range,
                              T* dx, T* levels = nullptr);

/// q = quantize_value(x, scale, lo, hi) of common/rounding.h as integers, plus `shift`, which puts a range with a sign
/// into bytes without one. Returns false if a value was NaN or infinite; `q` is then unspecified. Q: std::int8_t,
/// std::uint8_t; the range must fit. T: float, BFloat16, Float16.
template <typename T, typename Q>
bool quantize(const T* x, std::int64_t count, float scale, const QuantRange& range, Q* q, int shift = 0);

}  // namespace cpu

/// Values seen as rows of `inner` that share a scale: row r has scale r % channels. One scale for all: {1, 1, count}.
struct ScaledValues {
  std::int64_t rows = 1;
  std::int64_t channels = 1;
  std::int64_t inner = 0;

  std::int64_t count() const { return rows * inner; }
};

// All rows at once; pointers are of the device that is current, `scales` has `channels` values, and calls return before
// the work is done. A scale that is not positive and finite cannot be refused without waiting for the device: what is
// computed with it becomes NaN. Finite results have the bits of the CPU's. Launches throw cuda::LaunchError.
namespace cuda {

/// T: float, double, BFloat16, Float16. `y` may be `x`.
template <typename T>
void fake_quantize(const T* x, const ScaledValues& values, const Computed<T>* scales, const QuantRange& range, T* y,
                   Stream stream);

/// How many doubles fake_quantize_backward needs for `scratch`.
std::int64_t fake_quantize_backward_scratch(const ScaledValues& values);

/// dx and `levels` (may be null) as on the CPU; scale_gradients[c] = factor * the sum over the rows of channel c. The
/// products are those of the CPU, added as doubles in an order that depends on the sizes and on how the pointers are
/// aligned: the same call gives the same bits, and the sum is within 2^-17 of the sum of the products' magnitudes of
/// the CPU's, which adds up to 128 of them in float32. T: float, double, BFloat16, Float16.
template <typename T>
void fake_quantize_backward(const T* grad, const T* x, const ScaledValues& values, const Computed<T>* scales,
                            const QuantRange& range, double factor, T* dx, T* levels, Computed<T>* scale_gradients,
                            double* scratch, Stream stream);

/// Bits of `faults` of quantize.
constexpr int kNotFinite = 1;       ///< a value is NaN or infinite
constexpr int kScaleNotUsable = 2;  ///< a scale is not positive and finite

/// Bytes as on the CPU. `faults`, an int of the device that is 0 before, gets the bits of what was found; `q` is then
/// unspecified. T: float, BFloat16, Float16; Q: std::int8_t, std::uint8_t.
template <typename T, typename Q>
void quantize(const T* x, const ScaledValues& values, const float* scales, const QuantRange& range, Q* q, int shift,
              int* faults, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
