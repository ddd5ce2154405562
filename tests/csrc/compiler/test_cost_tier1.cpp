#include <catch2/catch.hpp>
#include <cstdint>

#include "compiler/cost/tier1.h"

using Catch::Matchers::Contains;
using cimq::Hardware;
using cimq::Mapping;
using cimq::compiler::LayerShape;
using cimq::compiler::tier1;

TEST_CASE("tier 1 follows the closed form by hand", "[latency]") {
  Hardware hw;
  const LayerShape conv{"conv", 64, 576, 3136, 1};
  // 2*64*2 = 256 columns: one array; 576 rows: three.
  auto cost = tier1(hw, conv, 8, 8);
  CHECK(cost.tiles == 3);
  CHECK(cost.writes == 3);
  CHECK(cost.mvms == 3 * 3136 * 8);
  CHECK(cost.time_ps() == 3 * 56'000'000LL + 3LL * 3136 * 8 * 1'400'000);
  hw.mapping = Mapping::kDifferentialRow;  // 128 columns, 1152 rows
  CHECK(tier1(hw, conv, 8, 8).tiles == 5);
  hw.mapping = Mapping::kOffset;  // 129 columns
  CHECK(tier1(hw, conv, 8, 8).tiles == 3);
  CHECK(tier1(hw, {"full", 128, 256, 1, 1}, 8, 8).tiles == 2);  // 257 columns: the reference column costs an array
}

TEST_CASE("repeats multiply writes and MVMs, digits come from the DAC", "[latency]") {
  Hardware hw;
  hw.dac_bits = 3;
  const auto cost = tier1(hw, {"heads", 10, 300, 50, 12}, 4, 8);
  CHECK(cost.tiles == 2);
  CHECK(cost.writes == 24);
  CHECK(cost.mvms == 24 * 50 * 3);
}

TEST_CASE("the table holds tier 1 for every pair", "[latency]") {
  const Hardware hw;
  const LayerShape shape{"l", 130, 300, 7, 2};
  const std::vector<int> bits{2, 5, 8};
  const auto table = cimq::compiler::tier1_table(hw, shape, bits);
  REQUIRE(table.size() == 9);
  CHECK(table[1 * 3 + 2] == tier1(hw, shape, 5, 8).time_ps());
  CHECK(table[2 * 3 + 0] == tier1(hw, shape, 8, 2).time_ps());
}

TEST_CASE("impossible layers are refused by name and key", "[latency]") {
  const Hardware hw;
  const std::int64_t huge = INT64_MAX;
  CHECK_THROWS_WITH(tier1(hw, {"c1", 0, 1, 1, 1}, 4, 4), Contains("layer 'c1': outputs must be at least 1, got 0"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", 1, -3, 1, 1}, 4, 4), Contains("layer 'c1': inputs must be at least 1, got -3"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", 1, 1, 0, 1}, 4, 4), Contains("invocations"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", 1, 1, 1, 0}, 4, 4), Contains("repeats"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", 1, 1, 1, 1}, 0, 4),
                    Contains("layer 'c1': weight_bits must be from 1 to 8, got 0"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", 1, 1, 1, 1}, 4, 9), Contains("layer 'c1': act_bits must be from 1 to 8, got 9"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", huge, 1, 1, 1}, 4, 4),
                    Contains("layer 'c1': the number of columns exceeds 63 bits"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", 1, huge, huge, 1}, 4, 4),
                    Contains("layer 'c1': the number of MVMs exceeds 63 bits"));
  CHECK_THROWS_WITH(tier1(hw, {"c1", 1, huge, 1, 1}, 4, 4), Contains("in picoseconds exceeds 63 bits"));
}

TEST_CASE("time converts to the nearest picosecond and back", "[latency]") {
  CHECK(cimq::compiler::picoseconds(1.4) == 1'400'000);
  CHECK(cimq::compiler::picoseconds(56.0) == 56'000'000);
  CHECK(cimq::compiler::microseconds(2'767'833'600'000) == 2767833.6);
}
