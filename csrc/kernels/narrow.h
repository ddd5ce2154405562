// Integers of any type on their way into a crossbar kernel: one byte each, and whether all of them are integers in
// range. On the CPU the operators do this (ops/support/operands.h), by the same formula (formula/integers.h).
#pragma once

#include <cstdint>

#include "common/float16.h"
#include "common/mapping.h"
#include "kernels/cuda/stream.h"

namespace cimq::kernels::cuda {

/// What operands of a kind may be.
struct AllowedIntegers {
  IntegerRange range;  ///< within -128..127, or 0..255
  bool zero = true;    ///< one-bit weights have none
};

/// bytes[i] = the low byte of the integer that x[i] stands for, 0 where it is none in range. `bytes` may be null: the
/// values are looked at only. Where a value is not allowed, `fault` is added to the bits of `faults`, an int of the
/// device. Pointers are of the device that is current; returns before the work is done. T: std::uint8_t, std::int8_t,
/// std::int16_t, std::int32_t, std::int64_t, float, double, BFloat16, Float16. Throws LaunchError.
template <typename T>
void narrow(const T* x, std::int64_t count, const AllowedIntegers& allowed, std::uint8_t* bytes, int fault, int* faults,
            Stream stream);

}  // namespace cimq::kernels::cuda
