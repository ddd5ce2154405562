#include "kernels/fake_quantize.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/quantise/fake_quantize_avx512.h"
#include "kernels/cpu/quantise/float16_blocks.h"
#include "kernels/formula/fake_quantize.h"

namespace cimq::kernels::cpu {
namespace {

// Compilers make branches of the clamp and its mask, so the vectors are written out: 16 bytes, which every CPU has.
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
  if constexpr (!kBinary && std::is_same_v<T, float>) {
    if (in_use().avx512) i = fake_quantize_avx512(x, count, scale, lo, hi, y);
  }
  for (; i + kLanes <= count; i += kLanes) {
    store<T>(y + i, quantized<kBinary, T>(load(x + i), scales, los, his) * scales);
  }
  for (; i < count; ++i) y[i] = quantized<kBinary, T>(x[i], scale, lo, hi) * scale;
}

/// How many values go into float sums before these go to the double one. 16-bit floats become float32 in such blocks.
constexpr std::int64_t kBlock = 2048;

/// Adds the products of at most kBlock gradients to `total`.
template <bool kBinary, bool kLevels, typename T>
void backward(const T* grad, const T* x, std::int64_t count, T scale, T lo, T hi, T* dx, [[maybe_unused]] T* levels,
              double& total) {
  constexpr std::int64_t kLanes = VectorOf<T>::kLanes;
  constexpr int kSums = 4;  // independent chains of additions
  const auto scales = splat(scale);
  const auto los = splat(lo);
  const auto his = splat(hi);
  Vector<T> sums[kSums] = {};
  std::int64_t i = 0;
  if constexpr (!kBinary && std::is_same_v<T, float>) {
    if (in_use().avx512) {
      i = fake_quantize_backward_avx512(grad, x, count, scale, lo, hi, dx, levels, total);
    }
  }
  for (; i + kSums * kLanes <= count; i += kSums * kLanes) {
    for (int j = 0; j < kSums; ++j) {
      const std::int64_t at = i + j * kLanes;
      const auto d = fake_quantize_gradient<kBinary, T>(load(x + at), scales, los, his);
      const auto g = load(grad + at);
      store<T>(dx + at, g * d.x);
      if constexpr (kLevels) store<T>(levels + at, d.level);
      sums[j] += g * d.scale;
    }
  }
  for (const auto& sum : sums) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) total += static_cast<double>(sum[lane]);
  }
  for (; i < count; ++i) {
    const auto d = fake_quantize_gradient<kBinary, T>(x[i], scale, lo, hi);
    const T g = grad[i];
    dx[i] = g * d.x;
    if constexpr (kLevels) levels[i] = d.level;
    total += static_cast<double>(g * d.scale);
  }
}

template <bool kBinary, typename Q>
bool integers(const float* x, std::int64_t count, float scale, float lo, float hi, Q* q, int shift) {
  constexpr std::int64_t kLanes = VectorOf<float>::kLanes;
  typedef Q Narrow __attribute__((vector_size(4)));            // NOLINT(modernize-use-using)
  typedef std::int32_t Wide __attribute__((vector_size(16)));  // NOLINT(modernize-use-using)
  bool finite = true;
  std::int64_t i = 0;
  if constexpr (!kBinary) {
    // The lowest eight bits are the same with a sign and without.
    auto* bytes = reinterpret_cast<std::uint8_t*>(q);
    if (in_use().avx512) i = quantize_avx512(x, count, scale, lo, hi, bytes, shift, finite);
  }
  const auto scales = splat(scale);
  const auto los = splat(lo);
  const auto his = splat(hi);
  // x - x is 0 for finite values and NaN otherwise: the sum of such differences shows whether all were finite.
  Vector<float> differences = {};
  for (; i + kLanes <= count; i += kLanes) {
    const auto value = load(x + i);
    differences += value - value;
    auto level = quantized<kBinary, float>(value, scales, los, his);
    level = level == level ? level : los;  // an integer of NaN is undefined
    const auto narrow = __builtin_convertvector(__builtin_convertvector(level, Wide) + shift, Narrow);
    std::memcpy(q + i, &narrow, sizeof(narrow));
  }
  float difference = differences[0] + differences[1] + differences[2] + differences[3];
  for (; i < count; ++i) {
    difference += x[i] - x[i];
    const float level = quantized<kBinary, float>(x[i], scale, lo, hi);
    q[i] = static_cast<Q>(static_cast<std::int32_t>(level == level ? level : lo) + shift);
  }
  return finite && difference == 0.0F;
}

}  // namespace

template <typename T>
void fake_quantize(const T* x, std::int64_t count, Computed<T> scale, const QuantRange& range, T* y) {
  using C = Computed<T>;
  const auto lo = static_cast<C>(range.lo);
  const auto hi = static_cast<C>(range.hi);
  const auto run = [&](const C* source, std::int64_t values, C* target) {
    range.binary ? forward<true>(source, values, scale, lo, hi, target)
                 : forward<false>(source, values, scale, lo, hi, target);
  };
  if constexpr (std::is_same_v<T, C>) {
    run(x, count, y);
  } else {
    const auto blocks = float16_blocks<T>(in_use());
    C values[kBlock];
    for (std::int64_t begin = 0; begin < count; begin += kBlock) {
      const std::int64_t some = std::min(kBlock, count - begin);
      blocks.widen(x + begin, some, values);
      run(values, some, values);
      blocks.narrow(values, some, y + begin);
    }
  }
}

template <typename T>
double fake_quantize_backward(const T* grad, const T* x, std::int64_t count, Computed<T> scale, const QuantRange& range,
                              T* dx, T* levels) {
  using C = Computed<T>;
  const auto lo = static_cast<C>(range.lo);
  const auto hi = static_cast<C>(range.hi);
  double total = 0.0;
  const auto run = [&](const C* upstream, const C* source, std::int64_t values, C* target, C* integers) {
    const auto with = [&]<bool kBinary>() {
      integers == nullptr ? backward<kBinary, false>(upstream, source, values, scale, lo, hi, target, integers, total)
                          : backward<kBinary, true>(upstream, source, values, scale, lo, hi, target, integers, total);
    };
    range.binary ? with.template operator()<true>() : with.template operator()<false>();
  };
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t some = std::min(kBlock, count - begin);
    T* integers = levels == nullptr ? nullptr : levels + begin;
    if constexpr (std::is_same_v<T, C>) {
      run(grad + begin, x + begin, some, dx + begin, integers);
    } else {
      const auto blocks = float16_blocks<T>(in_use());
      C gradients[kBlock];
      C values[kBlock];
      blocks.widen(grad + begin, some, gradients);
      blocks.widen(x + begin, some, values);
      run(gradients, values, some, gradients, integers == nullptr ? nullptr : values);
      blocks.narrow(gradients, some, dx + begin);
      if (integers != nullptr) blocks.narrow(values, some, integers);
    }
  }
  return total;
}

template <typename T, typename Q>
bool quantize(const T* x, std::int64_t count, float scale, const QuantRange& range, Q* q, int shift) {
  const auto lo = static_cast<float>(range.lo);
  const auto hi = static_cast<float>(range.hi);
  const auto run = [&](const float* source, std::int64_t values, Q* target) {
    return range.binary ? integers<true>(source, values, scale, lo, hi, target, shift)
                        : integers<false>(source, values, scale, lo, hi, target, shift);
  };
  if constexpr (std::is_same_v<T, float>) {
    return run(x, count, q);
  } else {
    const auto blocks = float16_blocks<T>(in_use());
    float values[kBlock];
    bool finite = true;
    for (std::int64_t begin = 0; begin < count; begin += kBlock) {
      const std::int64_t some = std::min(kBlock, count - begin);
      blocks.widen(x + begin, some, values);
      finite = run(values, some, q + begin) && finite;
    }
    return finite;
  }
}

template void fake_quantize<float>(const float*, std::int64_t, float, const QuantRange&, float*);
template void fake_quantize<double>(const double*, std::int64_t, double, const QuantRange&, double*);
template void fake_quantize<BFloat16>(const BFloat16*, std::int64_t, float, const QuantRange&, BFloat16*);
template void fake_quantize<Float16>(const Float16*, std::int64_t, float, const QuantRange&, Float16*);
template double fake_quantize_backward<float>(const float*, const float*, std::int64_t, float, const QuantRange&,
                                              float*, float*);
template double fake_quantize_backward<double>(const double*, const double*, std::int64_t, double, const QuantRange&,
                                               double*, double*);
template double fake_quantize_backward<BFloat16>(const BFloat16*, const BFloat16*, std::int64_t, float,
                                                 const QuantRange&, BFloat16*, BFloat16*);
template double fake_quantize_backward<Float16>(const Float16*, const Float16*, std::int64_t, float, const QuantRange&,
                                                Float16*, Float16*);
template bool quantize<float, std::int8_t>(const float*, std::int64_t, float, const QuantRange&, std::int8_t*, int);
template bool quantize<float, std::uint8_t>(const float*, std::int64_t, float, const QuantRange&, std::uint8_t*, int);
template bool quantize<BFloat16, std::int8_t>(const BFloat16*, std::int64_t, float, const QuantRange&, std::int8_t*,
                                              int);
template bool quantize<BFloat16, std::uint8_t>(const BFloat16*, std::int64_t, float, const QuantRange&, std::uint8_t*,
                                               int);
template bool quantize<Float16, std::int8_t>(const Float16*, std::int64_t, float, const QuantRange&, std::int8_t*, int);
template bool quantize<Float16, std::uint8_t>(const Float16*, std::int64_t, float, const QuantRange&, std::uint8_t*,
                                              int);

}  // namespace cimq::kernels::cpu
