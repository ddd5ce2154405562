#include "kernels/fake_quantize.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/fake_quantize_formula.h"

namespace cimq::kernels {
namespace {

// Compilers make branches of the clamp and its mask, so the vectors are written out: 16 bytes, which every CPU has.
// These loops are bound by memory; wider vectors gain nothing once the data leaves the caches.
template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(16)));  // NOLINT(modernize-use-using): the attribute needs a typedef
  static constexpr std::int64_t kLanes = 16 / sizeof(T);
};

template <typename T>
using Vector = typename VectorOf<T>::Type;

template <typename T>
Vector<T> load(const T* source) {
  Vector<T> value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

template <typename T>
void store(T* target, const Vector<T>& value) {
  std::memcpy(target, &value, sizeof(value));
}

template <typename T>
Vector<T> splat(T value) {
  return Vector<T>{} + value;
}

template <bool kBinary, typename T>
void forward(const T* x, std::int64_t count, T scale, T lo, T hi, T* y) {
  constexpr std::int64_t kLanes = VectorOf<T>::kLanes;
  const auto scales = splat(scale);
  const auto los = splat(lo);
  const auto his = splat(hi);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store<T>(y + i, quantized<kBinary, T>(load(x + i), scales, los, his) * scales);
  }
  for (; i < count; ++i) y[i] = quantized<kBinary, T>(x[i], scale, lo, hi) * scale;
}

template <bool kBinary, typename T>
double backward(const T* grad, const T* x, std::int64_t count, T scale, T lo, T hi, T* dx) {
  constexpr std::int64_t kLanes = VectorOf<T>::kLanes;
  constexpr int kSums = 4;               // independent chains of additions
  constexpr std::int64_t kBlock = 2048;  // how many values go into float sums before these go to the double one
  const auto scales = splat(scale);
  const auto los = splat(lo);
  const auto his = splat(hi);
  double total = 0.0;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, count);
    Vector<T> sums[kSums] = {};
    std::int64_t i = begin;
    for (; i + kSums * kLanes <= end; i += kSums * kLanes) {
      for (int j = 0; j < kSums; ++j) {
        const std::int64_t at = i + j * kLanes;
        const auto d = fake_quantize_gradient<kBinary, T>(load(x + at), scales, los, his);
        const auto g = load(grad + at);
        store<T>(dx + at, g * d.x);
        sums[j] += g * d.scale;
      }
    }
    for (const auto& sum : sums) {
      for (std::int64_t lane = 0; lane < kLanes; ++lane) total += static_cast<double>(sum[lane]);
    }
    for (; i < end; ++i) {
      const auto d = fake_quantize_gradient<kBinary, T>(x[i], scale, lo, hi);
      dx[i] = grad[i] * d.x;
      total += static_cast<double>(grad[i] * d.scale);
    }
  }
  return total;
}

template <bool kBinary, typename Q>
bool integers(const float* x, std::int64_t count, float scale, float lo, float hi, Q* q) {
  constexpr std::int64_t kLanes = VectorOf<float>::kLanes;
  typedef Q Narrow __attribute__((vector_size(4)));            // NOLINT(modernize-use-using)
  typedef std::int32_t Wide __attribute__((vector_size(16)));  // NOLINT(modernize-use-using)
  const auto scales = splat(scale);
  const auto los = splat(lo);
  const auto his = splat(hi);
  // x - x is 0 for finite values and NaN otherwise: the sum of such differences shows whether all were finite.
  Vector<float> differences = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const auto value = load(x + i);
    differences += value - value;
    auto level = quantized<kBinary, float>(value, scales, los, his);
    level = level == level ? level : los;  // an integer of NaN is undefined
    const auto narrow = __builtin_convertvector(__builtin_convertvector(level, Wide), Narrow);
    std::memcpy(q + i, &narrow, sizeof(narrow));
  }
  float difference = differences[0] + differences[1] + differences[2] + differences[3];
  for (; i < count; ++i) {
    difference += x[i] - x[i];
    const float level = quantized<kBinary, float>(x[i], scale, lo, hi);
    q[i] = static_cast<Q>(static_cast<std::int32_t>(level == level ? level : lo));
  }
  return difference == 0.0F;
}

}  // namespace

template <typename T>
void fake_quantize(const T* x, std::int64_t count, T scale, const QuantRange& range, T* y) {
  const T lo = static_cast<T>(range.lo);
  const T hi = static_cast<T>(range.hi);
  range.binary ? forward<true>(x, count, scale, lo, hi, y) : forward<false>(x, count, scale, lo, hi, y);
}

template <typename T>
double fake_quantize_backward(const T* grad, const T* x, std::int64_t count, T scale, const QuantRange& range, T* dx) {
  const T lo = static_cast<T>(range.lo);
  const T hi = static_cast<T>(range.hi);
  return range.binary ? backward<true>(grad, x, count, scale, lo, hi, dx)
                      : backward<false>(grad, x, count, scale, lo, hi, dx);
}

template <typename Q>
bool quantize(const float* x, std::int64_t count, float scale, const QuantRange& range, Q* q) {
  const auto lo = static_cast<float>(range.lo);
  const auto hi = static_cast<float>(range.hi);
  return range.binary ? integers<true>(x, count, scale, lo, hi, q) : integers<false>(x, count, scale, lo, hi, q);
}

template void fake_quantize<float>(const float*, std::int64_t, float, const QuantRange&, float*);
template void fake_quantize<double>(const double*, std::int64_t, double, const QuantRange&, double*);
template double fake_quantize_backward<float>(const float*, const float*, std::int64_t, float, const QuantRange&,
                                              float*);
template double fake_quantize_backward<double>(const double*, const double*, std::int64_t, double, const QuantRange&,
                                               double*);
template bool quantize<std::int8_t>(const float*, std::int64_t, float, const QuantRange&, std::int8_t*);
template bool quantize<std::uint8_t>(const float*, std::int64_t, float, const QuantRange&, std::uint8_t*);

}  // namespace cimq::kernels
