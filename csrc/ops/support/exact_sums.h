// When float32 adds up products of integers without rounding.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/mapping.h"

namespace cimq::ops {

inline constexpr std::int64_t kFloatExact = std::int64_t{1} << 24;  ///< float32 holds every integer up to here

/// Of a product of two integers.
constexpr std::int64_t largest_term(const IntegerRange& x_range, const IntegerRange& w_range) {
  return std::max(-x_range.lo, x_range.hi) * std::max(-w_range.lo, w_range.hi);
}

/// Whether float32 sums of `inputs` products are exact in any order of addition: all of them stay within 2^24.
constexpr bool float_sums_are_exact(std::int64_t inputs, const IntegerRange& x_range, const IntegerRange& w_range) {
  return inputs <= kFloatExact / largest_term(x_range, w_range);
}

}  // namespace cimq::ops
