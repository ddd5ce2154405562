#include <catch2/catch.hpp>
#include <set>
#include <utility>

#include "common/error.h"
#include "common/mapping.h"

using namespace cimq;
using Catch::Matchers::Contains;

namespace {

constexpr Mapping kAll[] = {Mapping::kDifferentialColumn, Mapping::kDifferentialRow, Mapping::kOffset};

}  // namespace

TEST_CASE("slices and digits", "[mapping]") {
  Hardware hw;
  CHECK(weight_slices(hw, 8) == 2);
  CHECK(weight_slices(hw, 5) == 2);
  CHECK(input_digits(hw, 5) == 5);
  hw.sign_magnitude = true;
  CHECK(weight_slices(hw, 5) == 1);
  CHECK(weight_slices(hw, 1) == 1);
  hw.dac_bits = 3;
  CHECK(input_digits(hw, 8) == 3);
  CHECK_THROWS_WITH(weight_slices(hw, 0), Contains("weight_bits must be an integer from 1 to 8, got 0"));
  CHECK_THROWS_WITH(input_digits(hw, 9), Contains("act_bits must be an integer from 1 to 8, got 9"));
}

TEST_CASE("rows and columns of a layer of 10 outputs and 7 inputs, three slices", "[mapping]") {
  CHECK(physical_columns(Mapping::kDifferentialColumn, 10, 3) == 60);
  CHECK(physical_columns(Mapping::kDifferentialRow, 10, 3) == 30);
  CHECK(physical_columns(Mapping::kOffset, 10, 3) == 31);
  CHECK(physical_rows(Mapping::kDifferentialColumn, 7) == 7);
  CHECK(physical_rows(Mapping::kDifferentialRow, 7) == 14);
  CHECK(physical_rows(Mapping::kOffset, 7) == 7);
}

TEST_CASE("a pair of rows does not start on the last row of an odd array", "[mapping]") {
  Hardware hw;
  hw.rows = 9;
  CHECK(inputs_per_tile(hw) == 9);
  CHECK(used_rows(hw) == 9);
  hw.mapping = Mapping::kDifferentialRow;
  CHECK(inputs_per_tile(hw) == 4);
  CHECK(used_rows(hw) == 8);
}

TEST_CASE("every cell of a layer has a place of its own, and all lie within its rows and columns", "[mapping]") {
  for (const Mapping mapping : kAll) {
    constexpr int kOutputs = 3;
    constexpr int kInputs = 4;
    constexpr int kSlices = 2;
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    for (int o = 0; o < kOutputs; ++o) {
      for (int i = 0; i < kInputs; ++i) {
        for (int s = 0; s < kSlices; ++s) {
          for (int p = 0; p < polarities(mapping); ++p) {
            const CellPosition at = cell_position(mapping, kSlices, o, i, s, p);
            CHECK(at.row < physical_rows(mapping, kInputs));
            CHECK(at.column < physical_columns(mapping, kOutputs, kSlices) - reference_columns(mapping));
            seen.insert({at.row, at.column});
          }
        }
      }
    }
    CHECK(seen.size() == static_cast<std::size_t>(kOutputs * kInputs * kSlices * polarities(mapping)));
  }
}

TEST_CASE("the cells of a weight add up to it, for all widths, cells and mappings", "[mapping]") {
  for (const Mapping mapping : kAll) {
    for (const bool sign_magnitude : {false, true}) {
      if (sign_magnitude && mapping == Mapping::kOffset) continue;
      for (int w = 1; w <= 8; ++w) {
        for (int c = 1; c <= 8; ++c) {
          Hardware hw;
          hw.mapping = mapping;
          hw.cell_bits = c;
          hw.sign_magnitude = sign_magnitude;
          const StoredWeight stored = stored_weight(hw, w);
          REQUIRE(static_cast<int>(stored.slice_weights.size()) == weight_slices(hw, w));
          std::int32_t largest = 0;
          for (std::int32_t value = -largest_weight(w); value <= largest_weight(w); ++value) {
            if (w == 1 && value == 0) continue;
            std::int64_t sum = -stored.shift;
            for (int s = 0; s < weight_slices(hw, w); ++s) {
              for (int p = 0; p < polarities(mapping); ++p) {
                const std::int32_t level = cell_level(mapping, c, w, value, s, p);
                REQUIRE(level >= 0);
                largest = std::max(largest, level);
                sum += (p == 0 ? 1 : -1) * stored.slice_weights[static_cast<std::size_t>(s)] * level;
              }
            }
            REQUIRE(sum == value);
          }
          REQUIRE(largest <= stored.max_level);
        }
      }
    }
  }
}

TEST_CASE("the digits of an activation add up to it, for all widths and drivers", "[mapping]") {
  for (int a = 1; a <= 8; ++a) {
    for (int d = 1; d <= 8; ++d) {
      for (const bool is_signed : {false, true}) {
        Hardware hw;
        hw.dac_bits = d;
        const AppliedInput applied = applied_input(hw, a, is_signed);
        const IntegerRange range = activation_range(a, is_signed);
        REQUIRE(range.hi - range.lo + 1 == 1 << a);
        for (auto x = static_cast<std::int32_t>(range.lo); x <= range.hi; ++x) {
          const std::uint32_t bits = static_cast<std::uint32_t>(x + applied.shift) & low_mask(a);
          std::int64_t sum = -applied.shift;
          for (std::size_t i = 0; i < applied.digit_weights.size(); ++i) {
            sum += applied.digit_weights[i] * static_cast<std::int64_t>(digit_of(bits, static_cast<int>(i), d));
          }
          REQUIRE(sum == x);
        }
      }
    }
  }
}

TEST_CASE("ranges of integers", "[mapping]") {
  CHECK(largest_weight(1) == 1);
  CHECK(largest_weight(2) == 1);
  CHECK(largest_weight(8) == 127);
  CHECK(weight_range(4).lo == -7);
  CHECK(activation_range(4, true).lo == -8);
  CHECK(activation_range(4, true).hi == 7);
  CHECK(activation_range(4, false).hi == 15);
  CHECK(largest_activation(4, true) == 8);
  CHECK(largest_activation(4, false) == 15);
}

TEST_CASE("codes of converters: a signed quantity has zero among them", "[mapping]") {
  const CodeRange column = code_range(4, false);
  CHECK(column.levels == 16);
  CHECK(column.min == 0);
  CHECK(column.max == 15);
  const CodeRange pair = code_range(4, true);
  CHECK(pair.levels == 15);
  CHECK(pair.min == -7);
  CHECK(pair.max == 7);
}

TEST_CASE("which converters see both signs", "[mapping]") {
  Hardware hw;
  hw.adc.bits = 8;
  CHECK(converts_signed(hw));
  CHECK_FALSE(converts_columns_apart(hw));
  hw.adc.placement = AdcPlacement::kPerColumn;
  CHECK_FALSE(converts_signed(hw));
  CHECK(converts_columns_apart(hw));
  hw.mapping = Mapping::kDifferentialRow;
  CHECK(converts_signed(hw));
  CHECK_FALSE(converts_columns_apart(hw));
  hw.mapping = Mapping::kOffset;
  CHECK_FALSE(converts_signed(hw));
  CHECK_FALSE(converts_columns_apart(hw));
}
