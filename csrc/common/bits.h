// Bit fields of activations and weights. Every width is 1..8 bits.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace cimq {

/// The `bits` low bits set; bits in 0..31.
CIMQ_HOST_DEVICE constexpr std::uint32_t low_mask(int bits) { return (std::uint32_t{1} << bits) - 1U; }

/// Digit `index` (least significant first) of `value` written in digits of `digit_bits` bits.
CIMQ_HOST_DEVICE constexpr std::uint32_t digit_of(std::uint32_t value, int index, int digit_bits) {
  return (value >> (index * digit_bits)) & low_mask(digit_bits);
}

/// Value of an activation's raw bits: themselves, or their int8 two's complement.
CIMQ_HOST_DEVICE constexpr std::int32_t activation_value(std::uint8_t raw, bool is_signed) {
  return is_signed ? static_cast<std::int32_t>(static_cast<std::int8_t>(raw)) : static_cast<std::int32_t>(raw);
}

}  // namespace cimq
