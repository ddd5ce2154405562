#include <catch2/catch.hpp>

#include "common/rounding.h"

TEST_CASE("rounding is half to even", "[rounding]") {
  CHECK(cimq::round_half_even(0.5F) == 0.0F);
  CHECK(cimq::round_half_even(1.5F) == 2.0F);
  CHECK(cimq::round_half_even(-2.5F) == -2.0F);
  CHECK(cimq::round_half_even(2.5) == 2.0);
}

TEST_CASE("ceil_div is exact", "[rounding]") {
  CHECK(cimq::ceil_div(0, 4) == 0);
  CHECK(cimq::ceil_div(8, 4) == 2);
  CHECK(cimq::ceil_div<long>(9, 4) == 3);
}

TEST_CASE("quantize_value clamps after rounding", "[rounding]") {
  CHECK(cimq::quantize_value(2.5F, 1.0F, 0.0F, 15.0F) == 2.0F);
  CHECK(cimq::quantize_value(100.0F, 1.0F, 0.0F, 15.0F) == 15.0F);
  CHECK(cimq::quantize_value(-3.0F, 1.0F, 0.0F, 15.0F) == 0.0F);
}
