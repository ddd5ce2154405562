#include <catch2/catch.hpp>
#include <cmath>

#include "random_case.h"

namespace cimq::kernels::testing {
namespace {

/// x . w^T by its definition.
std::vector<std::int32_t> digital(const Case& c, const std::vector<std::int8_t>& w,
                                  const std::vector<std::uint8_t>& x) {
  std::vector<std::int32_t> y;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t o = 0; o < c.outputs; ++o) {
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < c.inputs; ++k) {
        const std::uint8_t raw = x[static_cast<std::size_t>(b * c.inputs + k)];
        const int value = c.options.act_signed ? static_cast<std::int8_t>(raw) : raw;
        sum += value * w[static_cast<std::size_t>(o * c.inputs + k)];
      }
      y.push_back(sum);
    }
  }
  return y;
}

}  // namespace

TEST_CASE("ideal and lossless converters give the digital value for every width, digit and mapping", "[mvm]") {
  Random random(2);
  for (int j = 0; j < 1500; ++j) {
    Case c = random_case(random);
    c.hardware.cell = {};
    c.hardware.wires = {};
    c.options.adc_lo.clear();
    c.options.adc_lsb.clear();
    c.options.adc_columns = 0;
    c.hardware.adc.range = AdcRange::kGranular;
    c.hardware.rows = static_cast<int>(random.integer(2, 6));
    c.hardware.adc.bits.reset();
    if (random.chance(0.5)) {
      c.hardware.adc.bits = 16;
      c.hardware.cell_bits = static_cast<int>(random.integer(1, 5));
      c.hardware.dac_bits = static_cast<int>(random.integer(1, 5));
    }
    INFO(c.text());
    const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
    const auto x = random_activations(random, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
    const cpu::CrossbarMvm mvm({c.hardware, w.data(), c.outputs, c.inputs, c.options});
    REQUIRE(mvm.exact());
    REQUIRE(mvm.plan().lossless);
    std::vector<std::int32_t> y(static_cast<std::size_t>(c.batch * c.outputs));
    mvm.run(x.data(), c.batch, y.data());
    REQUIRE(y == digital(c, w, x));
  }
}

TEST_CASE("a converter's codes are what a hand calculation gives", "[mvm]") {
  // 3 rows, 1-bit cells and drivers, 2-bit offset codes: fs = 3, L = 4, lsb = 1: lossless.
  Hardware hw = plain_hardware();
  hw.rows = 3;
  hw.cell_bits = 1;
  hw.adc = {2, AdcRange::kFullScale, AdcPlacement::kPerColumn};
  const std::vector<std::int8_t> w{1, 1, 1, 1};
  const std::vector<std::uint8_t> x{1, 1, 1, 1};
  MvmOptions options;
  options.weight_bits = 1;
  options.act_bits = 1;
  const cpu::CrossbarMvm lossless({hw, w.data(), 1, 4, options});
  CHECK(lossless.exact());
  std::int32_t exact = 0;
  lossless.run(x.data(), 1, &exact);
  CHECK(exact == 4);

  // 4 rows instead: fs = 4, lsb = 4/3; I = 4 is code 3, y = 3 * 4/3.
  hw.rows = 4;
  const cpu::CrossbarMvm lossy({hw, w.data(), 1, 4, options});
  CHECK_FALSE(lossy.exact());
  float y = 0.0F;
  lossy.run(x.data(), 1, &y);
  CHECK(y == 3.0F * static_cast<float>(4.0 / 3.0));

  // Two of four inputs: I = 2, 2 / (4/3) = 1.5 rounds to the even code 2.
  const std::vector<std::uint8_t> half{1, 0, 1, 0};
  lossy.run(half.data(), 1, &y);
  CHECK(y == 2.0F * static_cast<float>(4.0 / 3.0));

  // Differential: L = 3, fs = 4, lsb = 4; two inputs are a half code: even, 0.
  hw.adc.placement = AdcPlacement::kDifferential;
  const cpu::CrossbarMvm differential({hw, w.data(), 1, 4, options});
  differential.run(half.data(), 1, &y);
  CHECK(y == 0.0F);
  differential.run(x.data(), 1, &y);
  CHECK(y == 4.0F);
}

TEST_CASE("a calibrated range clips, and its lo comes back", "[mvm]") {
  Hardware hw = plain_hardware();
  hw.mapping = Mapping::kOffset;
  hw.cell_bits = 8;
  hw.adc = {2, AdcRange::kCalibrated, AdcPlacement::kPerColumn};
  MvmOptions options;
  options.weight_bits = 3;  // stored: w + 4
  options.act_bits = 1;
  options.adc_lo = {5};
  options.adc_lsb = {2.0};
  const std::vector<std::int8_t> w{3, 3};
  const std::vector<std::uint8_t> x{1, 1};
  const cpu::CrossbarMvm mvm({hw, w.data(), 1, 2, options});
  float y = 0.0F;
  mvm.run(x.data(), 1, &y);
  // I = 14, (14 - 5) / 2 = 4.5 clips to 3: 5 + 2 * 3 = 11, less the offset 4 * 2.
  CHECK(y == 3.0F);
}

TEST_CASE("columns with ranges of their own are converted with them", "[mvm]") {
  // The two outputs of the case above: I = 14 in both.
  Hardware hw = plain_hardware();
  hw.mapping = Mapping::kOffset;
  hw.cell_bits = 8;
  hw.adc = {2, AdcRange::kCalibrated, AdcPlacement::kPerColumn, AdcGranularity::kColumn};
  MvmOptions options;
  options.weight_bits = 3;
  options.act_bits = 1;
  options.adc_columns = 2;
  options.adc_lo = {5, -1};
  options.adc_lsb = {2.0, 6.0};
  const std::vector<std::int8_t> w{3, 3, 3, 3};
  const std::vector<std::uint8_t> x{1, 1};
  std::vector<float> y(2);
  cpu::CrossbarMvm({hw, w.data(), 2, 2, options}).run(x.data(), 1, y.data());
  CHECK(y[0] == 3.0F);
  // (14 + 1) / 6 = 2.5 rounds to 2: -1 + 6 * 2 = 11, less the offset 8.
  CHECK(y[1] == 3.0F);
  options.adc_lsb[1] = 5.0;  // 3: -1 + 15 = 14, less 8
  cpu::CrossbarMvm({hw, w.data(), 2, 2, options}).run(x.data(), 1, y.data());
  CHECK(y[1] == 6.0F);
}

TEST_CASE("equal columns give what one range for the slice gives, without a difference in any bit", "[mvm]") {
  Random random(21);
  int computed = 0;
  for (int j = 0; j < 300; ++j) {
    Case c = random_case(random);
    if (c.options.adc_columns == 0) continue;
    const std::size_t slices = c.options.adc_lsb.size() / static_cast<std::size_t>(c.outputs);
    MvmOptions alike = c.options;
    alike.adc_columns = 0;
    alike.adc_lo.resize(slices);
    alike.adc_lsb.resize(slices);
    for (std::size_t i = 0; i < c.options.adc_lsb.size(); ++i) {
      c.options.adc_lo[i] = alike.adc_lo[i / static_cast<std::size_t>(c.outputs)];
      c.options.adc_lsb[i] = alike.adc_lsb[i / static_cast<std::size_t>(c.outputs)];
    }
    INFO(c.text());
    const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
    const auto x = random_activations(random, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
    std::optional<cpu::CrossbarMvm> columns;
    try {
      columns.emplace(MvmProblem{c.hardware, w.data(), c.outputs, c.inputs, c.options});
    } catch (const Error&) {
      continue;
    }
    const cpu::CrossbarMvm slice({c.hardware, w.data(), c.outputs, c.inputs, alike});
    REQUIRE(columns->exact() == slice.exact());
    if (slice.exact()) continue;
    ++computed;
    std::vector<float> expected(static_cast<std::size_t>(c.batch * c.outputs));
    std::vector<float> got(expected.size());
    slice.run(x.data(), c.batch, expected.data(), c.first_access);
    columns->run(x.data(), c.batch, got.data(), c.first_access);
    REQUIRE(got == expected);
  }
  CHECK(computed > 30);
}

}  // namespace cimq::kernels::testing
