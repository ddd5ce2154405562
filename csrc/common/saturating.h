// Counting without a wrap: what a hostile file asks for can be more than 64 bits hold.
#pragma once

#include <cstdint>
#include <limits>

namespace cimq {

constexpr std::uint64_t kUncountable = std::numeric_limits<std::uint64_t>::max();

/// a + b, or kUncountable.
constexpr std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) {
  return a > kUncountable - b ? kUncountable : a + b;
}

/// a * b * ..., or kUncountable.
template <typename... Factors>
constexpr std::uint64_t saturating_product(std::uint64_t a, Factors... factors) {
  const auto times = [&a](std::uint64_t b) { a = b != 0 && a > kUncountable / b ? kUncountable : a * b; };
  (times(static_cast<std::uint64_t>(factors)), ...);
  return a;
}

}  // namespace cimq
