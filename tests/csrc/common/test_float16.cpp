#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>

#include "common/float16.h"

namespace cimq {
namespace {

constexpr int kBFloat16Exponent = 8;
constexpr int kFloat16Exponent = 5;

/// What the 16 bits mean, by the definition of IEEE 754.
double meaning(std::uint16_t bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

template <typename T>
void check_every_pattern(int exponent_bits) {
  for (int i = 0; i < 65536; ++i) {
    const T value{static_cast<std::uint16_t>(i)};
    const double wanted = meaning(value.bits, exponent_bits);
    const float got = widened(value);
    INFO("bits " << i);
    if (std::isnan(wanted)) {
      REQUIRE(std::isnan(got));
      REQUIRE(std::isnan(widened(narrowed<T>(got))));
    } else {
      REQUIRE(double{got} == wanted);
      REQUIRE(std::signbit(got) == std::signbit(wanted));
      REQUIRE(narrowed<T>(got).bits == value.bits);
    }
  }
}

/// Between every two neighbours: below, at and above their middle.
template <typename T>
void check_every_middle(int infinity) {
  for (int i = 0; i < infinity; ++i) {
    const T low{static_cast<std::uint16_t>(i)};
    const T high{static_cast<std::uint16_t>(i + 1)};
    // The neighbour of the largest number would be the next power of two, which is where infinity begins.
    const double ulp = i + 1 < infinity ? double{widened(high)} - double{widened(low)}
                                        : double{widened(low)} - double{widened(T{static_cast<std::uint16_t>(i - 1)})};
    const auto middle = static_cast<float>(double{widened(low)} + 0.5 * ulp);
    const T even = i % 2 == 0 ? low : high;
    INFO("bits " << i);
    REQUIRE(double{middle} == double{widened(low)} + 0.5 * ulp);
    REQUIRE(narrowed<T>(middle).bits == even.bits);
    REQUIRE(narrowed<T>(std::nextafterf(middle, 0.0F)).bits == low.bits);
    REQUIRE(narrowed<T>(std::nextafterf(middle, std::numeric_limits<float>::infinity())).bits == high.bits);
    REQUIRE(narrowed<T>(-middle).bits == (even.bits | 0x8000));
  }
}

}  // namespace

TEST_CASE("16-bit floats: every pattern of bits means what IEEE 754 says and survives float32", "[float16]") {
  check_every_pattern<BFloat16>(kBFloat16Exponent);
  check_every_pattern<Float16>(kFloat16Exponent);
}

TEST_CASE("16-bit floats are rounded half to even", "[float16]") {
  check_every_middle<BFloat16>(0x7f80);
  check_every_middle<Float16>(0x7c00);
}

TEST_CASE("16-bit floats: what is too large becomes infinity, what is too small zero", "[float16]") {
  constexpr float kLargest = std::numeric_limits<float>::max();
  CHECK(narrowed<BFloat16>(kLargest).bits == 0x7f80);
  CHECK(narrowed<Float16>(kLargest).bits == 0x7c00);
  CHECK(narrowed<Float16>(-kLargest).bits == 0xfc00);
  CHECK(narrowed<Float16>(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(narrowed<BFloat16>(-std::numeric_limits<float>::denorm_min()).bits == 0x8000);
}

TEST_CASE("16-bit floats: NaN with any bits stays NaN", "[float16]") {
  for (const std::uint32_t bits : {0x7fffffffU, 0x7f800001U, 0xffffffffU, 0xff800001U, 0x7fc00000U}) {
    INFO("bits " << bits);
    CHECK(std::isnan(widened(narrowed<BFloat16>(std::bit_cast<float>(bits)))));
    CHECK(std::isnan(widened(narrowed<Float16>(std::bit_cast<float>(bits)))));
  }
}

}  // namespace cimq
