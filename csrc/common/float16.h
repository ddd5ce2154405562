// The two 16-bit float types as they lie in memory. Nothing is computed in them: values are widened to float32 (exact)
// and results narrowed from it (half to even). On the host without branches and tables, so that compilers make vectors
// of loops over them; a device has an instruction. Both give the same bits but for those of NaN, which stays NaN.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "common/host_device.h"

namespace cimq {

/// Upper half of a float32: 8 bits of exponent, 7 of mantissa.
struct BFloat16 {
  std::uint16_t bits;
};

/// IEEE 754 binary16: 5 bits of exponent, 10 of mantissa.
struct Float16 {
  std::uint16_t bits;
};

CIMQ_HOST_DEVICE inline float widened(BFloat16 value) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(std::uint32_t{value.bits} << 16);
#else
  return std::bit_cast<float>(std::uint32_t{value.bits} << 16);
#endif
}

CIMQ_HOST_DEVICE inline float widened(Float16 value) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
#else
  constexpr std::uint32_t kRebias = (127U - 15U) << 23;
  constexpr auto kSmallestNormal = std::bit_cast<std::uint32_t>(0x1p-14F);
  const std::uint32_t bits = value.bits;
  const std::uint32_t exponent = bits & 0x7c00U;
  const std::uint32_t mantissas = (bits & 0x7fffU) << 13;
  // Infinity and NaN have all exponent bits in both types. Below 2^-14 there is no leading one: it is put there and
  // subtracted again; the others have 0 subtracted, as an operation of some values alone would not become a vector's.
  const std::uint32_t finite = mantissas + (exponent == 0U ? kSmallestNormal : kRebias);
  const std::uint32_t raised = exponent == 0x7c00U ? mantissas + 2 * kRebias : finite;
  const std::uint32_t lead = exponent == 0U ? kSmallestNormal : 0U;
  const float magnitude = std::bit_cast<float>(raised) - std::bit_cast<float>(lead);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | ((bits & 0x8000U) << 16));
#endif
}

template <typename T>
CIMQ_HOST_DEVICE T narrowed(float value);

/// NaN becomes the quiet NaN 0x7fc0.
template <>
CIMQ_HOST_DEVICE inline BFloat16 narrowed<BFloat16>(float value) {
#if defined(__CUDA_ARCH__)
  const std::uint32_t all = __float_as_uint(value);
#else
  const auto all = std::bit_cast<std::uint32_t>(value);
#endif
  const std::uint32_t rounded = (all + 0x7fffU + ((all >> 16) & 1U)) >> 16;
  return {static_cast<std::uint16_t>((all & 0x7fffffffU) > 0x7f800000U ? 0x7fc0U : rounded)};
}

/// From 65520 on infinity; NaN becomes quiet and keeps the upper bits of its mantissa, as processors have it.
template <>
CIMQ_HOST_DEVICE inline Float16 narrowed<Float16>(float value) {
#if defined(__CUDA_ARCH__)
  Float16 narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
#else
  constexpr std::uint32_t kRebias = (127U - 15U) << 23;
  constexpr auto kHalf = std::bit_cast<std::uint32_t>(0.5F);
  constexpr auto kSmallestNormal = std::bit_cast<std::uint32_t>(0x1p-14F);
  constexpr auto kInfinity = std::bit_cast<std::uint32_t>(0x1p16F);  // where the exponent of infinity begins
  const auto all = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = std::min(all & 0x7fffffffU, kInfinity);
  // Next to 0.5 a float32 has the steps of the subnormal numbers, 2^-24: the addition rounds these.
  // A mask, as compilers make branches of two choices by one condition.
  const std::uint32_t subnormal = 0U - static_cast<std::uint32_t>(magnitude < kSmallestNormal);
  const std::uint32_t lead = kHalf & subnormal;
  const auto sum = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + std::bit_cast<float>(lead));
  const std::uint32_t normal = (sum - kRebias + 0xfffU + ((sum >> 13) & 1U)) >> 13;
  const std::uint32_t finite = ((sum - kHalf) & subnormal) | (normal & ~subnormal);
  const std::uint32_t quiet = (all & 0x7fffffffU) > 0x7f800000U ? 0x200U | ((all >> 13) & 0x3ffU) : 0U;
  return {static_cast<std::uint16_t>(finite | quiet | ((all >> 16) & 0x8000U))};
#endif
}

}  // namespace cimq
