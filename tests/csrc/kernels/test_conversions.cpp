#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "common/bits.h"
#include "every_isa.h"
#include "kernels/cpu/convert/conversions.h"
#include "kernels/formula/adc.h"
#include "kernels/noise/read_noise.h"
#include "kernels/programmed_cells.h"
#include "random_case.h"

namespace cimq::kernels::testing {
namespace {

constexpr std::uint64_t kFirstAccess = 5;

/// Calls visit(slice, column, tile, row, output, digit, current) for every conversion, by the definition of the
/// current.
template <typename Visit>
void for_each_conversion(const Case& c, const MvmPlan& plan, const std::vector<std::int8_t>& w,
                         const std::vector<std::uint8_t>& x, const Visit& visit) {
  std::vector<std::int16_t> cells;
  if (plan.fractional) cells = programmed_cells_reference(c.hardware, plan, c.options, w.data());
  std::optional<ColumnNoise> noise;
  if (plan.reads != ReadModel::kNone) noise.emplace(c.hardware, plan, c.options);
  const auto cell = [&](std::int64_t o, std::int64_t k, int s, int polarity) -> std::int64_t {
    const std::int64_t index = o * c.inputs + k;
    if (!plan.fractional) return cell_level(plan, w[static_cast<std::size_t>(index)], s, polarity);
    const std::int64_t plane = s * plan.polarities() + polarity;
    return cells[static_cast<std::size_t>(plane * c.outputs * c.inputs + index)];
  };
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t o = 0; o < c.outputs; ++o) {
      for (std::int64_t t = 0; t < plan.row_tiles; ++t) {
        for (int s = 0; s < plan.n_w; ++s) {
          for (int i = 0; i < plan.n_x; ++i) {
            std::int64_t columns[2] = {0, 0};
            std::int64_t variances[2] = {0, 0};
            const std::int64_t begin = t * plan.inputs_per_tile;
            for (std::int64_t k = begin; k < std::min(c.inputs, begin + plan.inputs_per_tile); ++k) {
              const std::uint8_t raw = x[static_cast<std::size_t>(b * c.inputs + k)];
              const auto applied = static_cast<std::uint32_t>(
                  (c.options.act_signed ? static_cast<std::int8_t>(raw) : raw) + plan.input_shift);
              const std::int64_t digit = digit_of(applied & low_mask(plan.act_bits), i, plan.dac_bits);
              for (int p = 0; p < plan.polarities(); ++p) {
                const std::int64_t g = cell(o, k, s, p);
                columns[p] += digit * (g - plan.cancelled_base());
                const bool constant = plan.reads == ReadModel::kConstant;
                variances[p] +=
                    digit * digit * (constant ? 1 : cell_variance(static_cast<std::int32_t>(g), plan.read_shift));
              }
            }
            if (!plan.separate_columns) {
              columns[0] -= columns[1];
              variances[0] += variances[1];
            }
            for (int column = 0; column < converted_columns(plan); ++column) {
              std::int64_t current = columns[column];
              if (noise) {
                const std::uint64_t number = column_index(plan.separate_columns, o, column);
                const PhiloxCounter words =
                    column_words(noise->key(kFirstAccess + static_cast<std::uint64_t>(b)), number >> 2, t, i, s);
                current += noise->sample(variances[column], words.word[number & 3U]);
              }
              visit(s, column, t, b, o, i, static_cast<std::int32_t>(current));
            }
          }
        }
      }
    }
  }
}

struct Expected {
  std::vector<SliceConversions> counts;
  std::vector<double> pass, step;
};

Expected by_loops(const Case& c, const MvmPlan& plan, const std::vector<std::int8_t>& w,
                  const std::vector<std::uint8_t>& x) {
  Expected found;
  found.counts.resize(static_cast<std::size_t>(plan.n_w));
  for (SliceConversions& slice : found.counts) slice.codes.assign(static_cast<std::size_t>(plan.levels), 0);
  const std::int64_t matrix = c.batch * c.outputs;
  found.pass.assign(static_cast<std::size_t>(plan.row_tiles * converted_columns(plan) * plan.n_w * matrix), 0.0);
  found.step.assign(static_cast<std::size_t>(plan.n_w * matrix), 0.0);
  double digits = 0.0;
  for (const std::int32_t weight : plan.digit_weights) digits += std::abs(weight);
  std::vector<bool> started(found.counts.size(), false);
  for_each_conversion(
      c, plan, w, x,
      [&](int s, int column, std::int64_t t, std::int64_t b, std::int64_t o, int i, std::int32_t current) {
        const auto slice = static_cast<std::size_t>(s);
        const SlicePlan adc = plan.range(s, o);
        const std::int32_t unit = plan.unit();
        const std::int32_t shifted = current - adc.lo * unit;
        const std::int32_t code = adc_code(shifted, adc.inv_lsb, plan.code_min, plan.code_max);
        const float scaled = static_cast<float>(shifted) * adc.inv_lsb;
        const float rounded = round_half_even(scaled);
        const bool low = rounded < static_cast<float>(plan.code_min);
        const bool high = rounded > static_cast<float>(plan.code_max);
        SliceConversions& counts = found.counts[slice];
        ++counts.codes[static_cast<std::size_t>(code - plan.code_min)];
        counts.clipped_low += low ? 1 : 0;
        counts.clipped_high += high ? 1 : 0;
        counts.lowest = started[slice] ? std::min<std::int64_t>(counts.lowest, current) : current;
        counts.highest = started[slice] ? std::max<std::int64_t>(counts.highest, current) : current;
        started[slice] = true;
        counts.squared_error += std::pow(adc.lo + adc.lsb * code - double{1} * current / unit, 2);
        const std::int32_t weight = plan.digit_weights[static_cast<std::size_t>(i)];
        const auto at = static_cast<std::size_t>(b * c.outputs + o);
        const auto pass = static_cast<std::size_t>((t * converted_columns(plan) + column) * plan.n_w + s);
        const double sign = column == 0 ? 1.0 : -1.0;
        if (!low && !high) {
          found.pass[pass * static_cast<std::size_t>(matrix) + at] += std::abs(weight) / digits;
        }
        found.step[slice * static_cast<std::size_t>(matrix) + at] +=
            sign * weight * (low || high ? code : code - double{scaled});
      });
  return found;
}

/// False for a configuration without conversions, or one that is refused.
bool compare_conversions(const Case& c, const std::vector<std::int8_t>& w, const std::vector<std::uint8_t>& x) {
  INFO(c.text());
  std::optional<cpu::CrossbarMvm> mvm;
  try {
    mvm.emplace(MvmProblem{c.hardware, w.data(), c.outputs, c.inputs, c.options});
  } catch (const Error&) {
    return false;
  }
  const MvmPlan& plan = mvm->plan();
  if (plan.ideal) {
    REQUIRE_THROWS_AS(cpu::count_conversions(*mvm, x.data(), c.batch), Error);
    return false;
  }
  const Expected expected = by_loops(c, plan, w, x);
  const auto counts = cpu::count_conversions(*mvm, x.data(), c.batch, kFirstAccess);
  for (std::size_t s = 0; s < counts.size(); ++s) {
    REQUIRE(counts[s].codes == expected.counts[s].codes);
    REQUIRE(counts[s].clipped_low == expected.counts[s].clipped_low);
    REQUIRE(counts[s].clipped_high == expected.counts[s].clipped_high);
    REQUIRE(counts[s].lowest == expected.counts[s].lowest);
    REQUIRE(counts[s].highest == expected.counts[s].highest);
    REQUIRE(counts[s].squared_error == Approx(expected.counts[s].squared_error).epsilon(1e-9).margin(1e-9));
  }
  std::vector<float> pass(expected.pass.size());
  std::vector<float> step(expected.step.size());
  const ConversionShares shares{c.batch, pass.data(), step.data()};
  const std::int64_t middle = c.batch / 2;  // any split gives the same
  cpu::shares_of_conversions(*mvm, x.data(), middle, c.batch, shares, kFirstAccess);
  cpu::shares_of_conversions(*mvm, x.data(), 0, middle, shares, kFirstAccess);
  for (std::size_t j = 0; j < pass.size(); ++j) REQUIRE(pass[j] == Approx(expected.pass[j]).margin(1e-6));
  for (std::size_t j = 0; j < step.size(); ++j) REQUIRE(step[j] == Approx(expected.step[j]).epsilon(1e-4).margin(1e-2));
  return true;
}

}  // namespace

TEST_CASE("every conversion is counted as the loops find it, on every instruction set", "[conversions]") {
  for (const KernelSet& set : kernel_sets()) {
    DYNAMIC_SECTION(set.name) {
      const UseKernels use(set);
      Random random(11);
      int computed = 0;
      for (int j = 0; j < 400; ++j) {
        Case c = random_case(random);
        c.options.allow_collapse = false;
        const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
        const auto x = random_activations(random, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
        if (compare_conversions(c, w, x)) ++computed;
      }
      CHECK(computed > 200);
    }
  }
}

TEST_CASE("a conversion knows what the clamp did", "[conversions]") {
  // Codes 0..3, a step of 2 levels.
  const auto convert = [](std::int32_t current) { return adc_convert(current, 0.5F, 0.0F, 3.0F); };
  CHECK(convert(5).code == 2.0F);  // 2.5 rounds to even
  CHECK_FALSE(convert(5).above);
  CHECK(convert(6).code == 3.0F);
  CHECK_FALSE(convert(6).above);
  CHECK(convert(7).code == 3.0F);  // 3.5 rounds to 4
  CHECK(convert(7).above);
  CHECK_FALSE(convert(-1).below);  // -0.5 rounds to 0
  CHECK(convert(-2).below);
  CHECK(convert(2'000'000'000).code == 3.0F);
  CHECK(convert(-2'000'000'000).code == 0.0F);
  for (std::int32_t current = -1000; current < 1000; ++current) {
    for (const float inv_lsb : {0.01F, 0.3F, 1.0F, 7.7F}) {
      CHECK(adc_convert(current, inv_lsb, -15.0F, 15.0F).code ==
            static_cast<float>(adc_code(current, inv_lsb, -15, 15)));
    }
  }
}

TEST_CASE("conversions are refused where there are none", "[conversions]") {
  Random random(12);
  Case c = random_case(random);
  c.hardware = {};
  c.hardware.adc = {14, AdcRange::kGranular, AdcPlacement::kDifferential};
  c.options = {};
  const auto w = random_weights(random, c.outputs * c.inputs, 8);
  const std::vector<std::uint8_t> x(static_cast<std::size_t>(c.batch * c.inputs), 255);
  cpu::CrossbarMvm folded({c.hardware, w.data(), c.outputs, c.inputs, c.options});
  REQUIRE(folded.plan().lossless);
  CHECK_THROWS_WITH(cpu::count_conversions(folded, x.data(), c.batch), Catch::Contains("not folded"));
  c.options.allow_collapse = false;
  c.options.act_bits = 4;
  const cpu::CrossbarMvm narrow({c.hardware, w.data(), c.outputs, c.inputs, c.options});
  CHECK_THROWS_WITH(cpu::count_conversions(narrow, x.data(), c.batch), Catch::Contains("activations of 4 bits"));
  CHECK_THROWS_WITH(cpu::count_conversions(narrow, x.data(), -1), Catch::Contains("batch must be at least 0"));
  ConversionShares shares;
  CHECK_THROWS_WITH(cpu::shares_of_conversions(narrow, x.data(), 0, 1, shares),
                    Catch::Contains("rows must lie in 0..0"));
  const auto none = cpu::count_conversions(narrow, x.data(), 0);
  CHECK(none.front().codes == std::vector<std::int64_t>(16383, 0));
}

}  // namespace cimq::kernels::testing
