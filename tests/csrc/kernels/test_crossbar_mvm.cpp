#include <catch2/catch.hpp>
#include <cmath>

#include "every_isa.h"
#include "kernels/cpu/tile/dispatch.h"
#include "random_case.h"

namespace cimq::kernels::testing {

TEST_CASE("random layers equal the reference bit for bit on every instruction set", "[mvm]") {
  for (const KernelSet& set : kernel_sets()) {
    DYNAMIC_SECTION(set.name) {
      const UseKernels use(set);
      Random random(1);
      int computed = 0;
      for (int j = 0; j < 3000; ++j) {
        const Case c = random_case(random);
        const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
        const auto x = random_activations(random, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
        if (run_case(c, w, x)) ++computed;
      }
      CHECK(computed > 2000);
    }
  }
}

/// Results of every instruction set, and of the reference once, since it takes its time.
template <typename T>
void compare_all_kernels(const Case& c, const cpu::CrossbarMvm& mvm, const std::vector<std::int8_t>& w,
                         const std::vector<std::uint8_t>& x) {
  std::vector<T> expected(static_cast<std::size_t>(c.batch * c.outputs));
  crossbar_mvm_reference({c.hardware, w.data(), c.outputs, c.inputs, c.options}, x.data(), c.batch, expected.data());
  on_every_isa([&] {
    std::vector<T> got(expected.size());
    mvm.run(x.data(), c.batch, got.data());
    REQUIRE(got == expected);
  });
}

TEST_CASE("many digit rows against wide and deep layers equal the reference on every instruction set", "[mvm]") {
  // What tables of partial sums are for: single-bit digits, tiles of more than one chunk, panels of every width.
  Random random(11);
  int computed = 0;
  for (int j = 0; j < 40; ++j) {
    Case c = random_configuration(random);
    c.hardware.dac_bits = 1;
    c.hardware.cell_bits = static_cast<int>(random.integer(1, 6));
    c.hardware.rows = static_cast<int>(random.integer(100, 700));
    c.outputs = j % 4 == 0 ? random.integer(65, 90) : 16 * (j % 4) - random.integer(0, 15);
    c.inputs = random.integer(1, 400);
    c.options.act_bits = static_cast<int>(random.integer(5, 8));
    c.batch = random.integer(3, 5);
    add_column_ranges(random, c, c.outputs);
    INFO(c.text());
    const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
    const auto x = random_activations(random, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
    std::optional<cpu::CrossbarMvm> mvm;
    try {
      mvm.emplace(MvmProblem{c.hardware, w.data(), c.outputs, c.inputs, c.options});
    } catch (const Error&) {
      continue;  // refused configurations have tests of their own
    }
    ++computed;
    if (mvm->exact()) {
      compare_all_kernels<std::int32_t>(c, *mvm, w, x);
    } else {
      compare_all_kernels<float>(c, *mvm, w, x);
    }
  }
  CHECK(computed >= 20);
}

TEST_CASE("panels on their own give the outputs of the whole, and leave the others alone", "[mvm]") {
  Random random(12);
  Case c;
  c.hardware = plain_hardware();
  c.hardware.adc = {7, AdcRange::kFullScale, AdcPlacement::kDifferential};
  c.outputs = 150;
  c.inputs = 90;
  for (const std::int64_t batch : {std::int64_t{1}, std::int64_t{9}}) {
    const auto w = random_weights(random, c.outputs * c.inputs, 8);
    const auto x = random_activations(random, batch * c.inputs, 8, false);
    const cpu::CrossbarMvm mvm({c.hardware, w.data(), c.outputs, c.inputs, c.options});
    REQUIRE(mvm.panels() == 3);
    std::vector<float> whole(static_cast<std::size_t>(batch * c.outputs));
    mvm.run(x.data(), batch, whole.data());
    std::vector<float> parts(whole.size(), -1.0F);
    mvm.run_panels(x.data(), batch, {1, 2}, parts.data());
    CHECK(parts[64] == whole[64]);
    CHECK(parts[63] == -1.0F);
    CHECK(parts[128] == -1.0F);
    mvm.run_panels(x.data(), batch, {0, 1}, parts.data());
    mvm.run_panels(x.data(), batch, {2, 3}, parts.data());
    CHECK(parts == whole);
    CHECK_THROWS_WITH(mvm.run_panels(x.data(), batch, {2, 4}, parts.data()), Catch::Contains("0..3, got 2..4"));
  }
}

TEST_CASE("memory that a product takes for itself stays small and stops growing with the batch", "[mvm][memory]") {
  constexpr std::int64_t kLimit = 64 << 20;
  Hardware hw = plain_hardware();
  hw.rows = 256;
  hw.adc.bits = 8;
  for (const std::int64_t inputs : {64L, 4608L, 100000L}) {
    const std::vector<std::int8_t> w(static_cast<std::size_t>(3 * inputs), 1);
    MvmOptions options;
    options.weight_bits = 2;
    for (const int dac_bits : {1, 2}) {
      hw.dac_bits = dac_bits;
      for (const double sigma : {0.0, 0.1}) {
        hw.cell.programming = {};
        if (sigma > 0.0) hw.cell.programming = {"gaussian", sigma};
        const cpu::CrossbarMvm mvm({hw, w.data(), 3, inputs, options});
        CHECK(mvm.scratch_bytes(0) == 0);
        CHECK(mvm.scratch_bytes(1) >= inputs);
        CHECK(mvm.scratch_bytes(1) <= mvm.scratch_bytes(1000));
        CHECK(mvm.scratch_bytes(1000) == mvm.scratch_bytes(1000000));
        CHECK(mvm.scratch_bytes(1000000) < kLimit);
        Hardware columns = hw;
        columns.adc = {8, AdcRange::kLearned, AdcPlacement::kDifferential, AdcGranularity::kColumn};
        MvmOptions ranges = options;
        ranges.adc_columns = 3;
        ranges.adc_lo.assign(3, 0);
        ranges.adc_lsb.assign(3, 2.0);
        const cpu::CrossbarMvm by_column({columns, w.data(), 3, inputs, ranges});
        CHECK(by_column.scratch_bytes(1000) >= mvm.scratch_bytes(1000));
        CHECK(by_column.scratch_bytes(1000000) < kLimit);
        if (cpu::active_kernels().matrix.bytes != nullptr) continue;
        // Neither by matrices nor by tables of partial sums: the currents of a tile are kept.
        CHECK(by_column.scratch_bytes(1) >= mvm.scratch_bytes(1) + 8 / dac_bits * cpu::kPanelWidth * 4);
      }
    }
  }
}

TEST_CASE("cells packed under one instruction set run under every other", "[mvm]") {
  Random random(5);
  for (int j = 0; j < 400; ++j) {
    Case c = random_case(random);
    c.hardware.cell = {};
    c.hardware.wires = {};
    c.hardware.cell_bits = 1;  // the only cells whose packing depends on the instruction set
    c.hardware.dac_bits = 1;
    c.options.adc_lo.clear();
    c.options.adc_lsb.clear();
    c.options.adc_columns = 0;
    c.hardware.adc.range = AdcRange::kFullScale;
    c.inputs = random.integer(1, 200);
    c.hardware.rows = static_cast<int>(random.integer(2, 150));
    INFO(c.text());
    const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
    const auto x = random_activations(random, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
    if (!run_case(c, w, x)) continue;
    const cpu::CrossbarMvm mvm({c.hardware, w.data(), c.outputs, c.inputs, c.options});
    on_every_isa([&] {
      if (mvm.exact()) {
        compare<std::int32_t>(c, mvm, w, x);
      } else {
        compare<float>(c, mvm, w, x);
      }
    });
  }
}

TEST_CASE("the result does not depend on how the batch is split", "[mvm]") {
  Random random(3);
  Case c = random_case(random);
  c.hardware = plain_hardware();
  c.hardware.adc = {6, AdcRange::kFullScale, AdcPlacement::kDifferential};
  c.hardware.cell.programming = {"gaussian", 0.1};
  c.options = {};
  c.outputs = 70;
  c.inputs = 100;
  c.batch = 131;
  const auto w = random_weights(random, c.outputs * c.inputs, 8);
  const auto x = random_activations(random, c.batch * c.inputs, 8, false);
  const cpu::CrossbarMvm mvm({c.hardware, w.data(), c.outputs, c.inputs, c.options});
  std::vector<float> whole(static_cast<std::size_t>(c.batch * c.outputs));
  std::vector<float> parts(whole.size());
  mvm.run(x.data(), c.batch, whole.data());
  for (std::int64_t b = 0; b < c.batch; b += 29) {
    mvm.run(x.data() + b * c.inputs, std::min<std::int64_t>(29, c.batch - b), parts.data() + b * c.outputs);
  }
  CHECK(whole == parts);
  mvm.run(x.data(), 0, whole.data());
  CHECK(whole == parts);
}

TEST_CASE("chips, layers and seeds have cells of their own; the same key has the same cells", "[mvm][noise]") {
  Random random(4);
  Hardware hw = plain_hardware();
  hw.cell.programming = {"gaussian", 0.2};
  const auto w = random_weights(random, 4 * 40, 8);
  const std::vector<std::uint8_t> x(40, 11);  // random activations may be all 0, which no noise changes
  const auto run = [&](std::uint64_t seed, std::uint32_t chip, std::uint32_t layer) {
    MvmOptions options;
    options.seed = seed;
    options.chip = chip;
    options.layer = layer;
    std::vector<float> y(4);
    cpu::CrossbarMvm({hw, w.data(), 4, 40, options}).run(x.data(), 1, y.data());
    return y;
  };
  const std::vector<float> base = run(5, 0, 0);
  CHECK(run(5, 0, 0) == base);
  CHECK(run(6, 0, 0) != base);
  CHECK(run(5U + (std::uint64_t{1} << 32), 0, 0) != base);
  CHECK(run(5, 1, 0) != base);
  CHECK(run(5, 0, 1) != base);
}

TEST_CASE("programming noise has the variance that independent cells add up to", "[mvm][noise]") {
  // Level 2 of 3 everywhere (w = 2 in one 2-bit cell), far from the clamp at 0 on the positive side; the negative
  // column holds level 0, clamped at 0: half normal. y = sum over 64 inputs of x * (G+ - G-).
  Hardware hw = plain_hardware();
  constexpr double kSigma = 0.125;
  hw.cell.programming = {"gaussian", kSigma};
  MvmOptions options;
  options.weight_bits = 3;
  options.act_bits = 1;
  hw.cell_bits = 3;
  constexpr std::int64_t kOutputs = 4000;
  constexpr std::int64_t kInputs = 64;
  const std::vector<std::int8_t> w(kOutputs * kInputs, 2);
  const std::vector<std::uint8_t> x(kInputs, 1);
  std::vector<float> y(kOutputs);
  cpu::CrossbarMvm({hw, w.data(), kOutputs, kInputs, options}).run(x.data(), 1, y.data());
  double sum = 0.0;
  double squares = 0.0;
  for (const float value : y) {
    sum += value;
    squares += double{value} * value;
  }
  const double mean = sum / kOutputs;
  const double variance = squares / kOutputs - mean * mean;
  const double half_normal_mean = kSigma / std::sqrt(2.0 * 3.14159265358979);
  const double half_normal_variance = kSigma * kSigma * (0.5 - 1.0 / (2.0 * 3.14159265358979));
  const double expected = kInputs * (kSigma * kSigma + half_normal_variance);
  CHECK(std::abs(mean - kInputs * (2.0 - half_normal_mean)) < 4.0 * std::sqrt(expected / kOutputs));
  CHECK(variance == Approx(expected).epsilon(4.0 * std::sqrt(2.0 / kOutputs)));
}

TEST_CASE("results of the wrong type and activations out of range are refused", "[mvm][errors]") {
  const std::vector<std::int8_t> w{1, -1};
  std::vector<std::uint8_t> x{1, 16};
  MvmOptions options;
  options.weight_bits = 2;
  options.act_bits = 4;
  Hardware hw = plain_hardware();
  const cpu::CrossbarMvm exact({hw, w.data(), 1, 2, options});
  float real = 0.0F;
  std::int32_t integer = 0;
  CHECK_THROWS_WITH(exact.run(x.data(), 1, &real), Catch::Contains("int32"));
  CHECK_THROWS_WITH(exact.run(x.data(), 1, &integer), Catch::Contains("0..15, got 16 at index 1"));
  CHECK_THROWS_WITH(exact.run(x.data(), -1, &integer), Catch::Contains("batch"));
  options.act_signed = true;
  x = {7, 8};
  CHECK_THROWS_WITH(cpu::CrossbarMvm({hw, w.data(), 1, 2, options}).run(x.data(), 1, &integer),
                    Catch::Contains("-8..7, got 8 at index 1"));
  hw.adc.bits = 4;
  options.act_signed = false;
  CHECK_THROWS_WITH(cpu::CrossbarMvm({hw, w.data(), 1, 2, options}).run(x.data(), 1, &integer),
                    Catch::Contains("float32"));
  CHECK_THROWS_WITH(crossbar_mvm_reference({hw, w.data(), 1, 2, options}, x.data(), 1, &integer),
                    Catch::Contains("float32"));
}

}  // namespace cimq::kernels::testing
