// How long single steps take: converters that columns share, the bus, vector lanes.
#include <catch2/catch.hpp>

#include "compiler/cost/durations.h"

using namespace cimq::compiler;
using Catch::Matchers::Contains;
using cimq::Hardware;
using cimq::Mapping;

TEST_CASE("What is not described takes no time", "[durations]") {
  const Hardware hw;  // 1.4 us for a digit
  CHECK(digit_time(hw, 128).step_ps() == 1'400'000);
  CHECK(digit_time(hw, 128).wait_ps == 0);
  CHECK(digit_time(hw, 128).drain_ps == 0);
  CHECK(bus_time_ps(hw, 1'000'000) == 0);
  CHECK(vector_time_ps(hw, 1'000'000) == 0);
}

TEST_CASE("Columns share converters", "[durations]") {
  Hardware hw;
  hw.timing.adc_time_us = 0.1;
  DigitTime time = digit_time(hw, 128);  // a converter for every line
  CHECK(time.step_ps() == 1'400'000);
  CHECK(time.drain_ps == 100'000);
  hw.resources.adcs_per_crossbar = 8;  // 16 rounds of 0.1 us: longer than reading
  time = digit_time(hw, 128);
  CHECK(time.read_ps == 1'400'000);
  CHECK(time.wait_ps == 200'000);
  CHECK(time.drain_ps == 1'400'000);
  hw.resources.adcs_per_crossbar = 10;  // 13 rounds
  time = digit_time(hw, 128);
  CHECK(time.wait_ps == 0);
  CHECK(time.drain_ps == 1'300'000);
  CHECK(digit_time(hw, 0).drain_ps == 0);
  hw.timing.adc_time_us = 1e9;
  hw.resources.adcs_per_crossbar = 1;
  CHECK_THROWS_WITH(digit_time(hw, 65536), Contains("conversions of one digit take more than 2^58 ps"));
}

TEST_CASE("Pairs are converted with the tile that has their second column", "[durations]") {
  Hardware hw;
  CHECK(converted_lines(hw, 0, 256) == 128);
  CHECK(converted_lines(hw, 0, 3) + converted_lines(hw, 3, 6) == 3);
  hw.adc.placement = cimq::AdcPlacement::kPerColumn;
  CHECK(converted_lines(hw, 0, 256) == 256);
  hw.adc.placement = cimq::AdcPlacement::kDifferential;
  hw.mapping = Mapping::kOffset;
  CHECK(converted_lines(hw, 256, 261) == 5);
}

TEST_CASE("Bus and vector lanes", "[durations]") {
  Hardware hw;
  hw.resources.bus_bytes_per_us = 3.0;
  CHECK(bus_time_ps(hw, 3) == 1'000'000);
  CHECK(bus_time_ps(hw, 1) == 333'334);  // rounded up
  hw.resources.bus_bytes_per_us = 1e-300;
  CHECK_THROWS_WITH(bus_time_ps(hw, 1), Contains("a move of 1 bytes takes more than 2^58 ps"));
  hw.timing.vector_time_us = 0.002;
  CHECK(vector_time_ps(hw, 100) == 2'000);  // a lane for each
  CHECK(vector_time_ps(hw, 0) == 0);
  hw.resources.vector_lanes = 16;
  CHECK(vector_time_ps(hw, 100) == 7 * 2'000);
}
