#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <thread>
#include <vector>

#include "common/cell_model.h"
#include "every_isa.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/program/programmed_cells.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/ir_drop.h"
#include "kernels/programmed_cells.h"
#include "random_case.h"

namespace cimq::kernels::testing {
namespace {

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

Hardware with_window(double g_min, double g_max, int cell_bits) {
  Hardware hw;
  hw.cell_bits = cell_bits;
  hw.cell.g_min_microsiemens = g_min;
  hw.cell.g_max_microsiemens = g_max;
  return hw;
}

/// Conductances of one level in level steps for words at the quantiles of `z`, without stuck cells.
std::int32_t at_quantile(const CellTables& tables, int level, double z, double drift_z = 0.0) {
  const auto word = [](double x) { return static_cast<std::uint32_t>(normal_cdf(x) * 4294967296.0); };
  return tables.conductance(level, word(z), 0xffffffffU, word(drift_z));
}

}  // namespace

TEST_CASE("programmed cells equal the reference for every mix of effects", "[cells]") {
  Random random(11);
  int compared = 0;
  for (int j = 0; j < 400; ++j) {
    Case c = random_case(random);
    add_cell_effects(random, c.hardware);
    c.hardware.cell.read = {};
    c.hardware.cols = static_cast<int>(random.integer(1, 30));
    leave_out_converters(c);
    c.options.first_output = random.integer(0, 50);
    c.inputs = random.integer(1, 30);
    c.outputs = random.integer(1, 6);
    INFO(c.text());
    const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
    MvmPlan plan;
    try {
      plan = make_mvm_plan(c.hardware, c.outputs, c.inputs, c.options);
    } catch (const Error&) {
      continue;
    }
    if (!plan.fractional) continue;
    ++compared;
    const std::vector<std::int16_t> got = cpu::ProgrammedCells(c.hardware, plan, c.options, w.data()).values();
    REQUIRE(got == programmed_cells_reference(c.hardware, plan, c.options, w.data()));
    const std::int32_t bound = CellTables::of(c.hardware)->largest(plan.max_level);
    REQUIRE(*std::max_element(got.begin(), got.end()) <= bound);
    REQUIRE(*std::min_element(got.begin(), got.end()) >= 0);
  }
  CHECK(compared > 200);
}

TEST_CASE("every instruction set programs the same chip, however cells are numbered", "[cells]") {
  // 2^32 blocks of words are passed within the last case's cells; more than 2048 cells; one and two cells per weight.
  struct Shape {
    int cell_bits;
    std::int64_t first_output, outputs, inputs;
  };
  for (const Shape& shape : {Shape{1, 0, 5, 3}, Shape{2, 1, 9, 341}, Shape{4, 7, 3, 1000}, Shape{6, 3, 40, 65},
                             Shape{2, (std::int64_t{1} << 33) / 64 - 3, 8, 64}}) {
    for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kOffset}) {
      for (const char* model : {"gaussian", "proportional"}) {
        Hardware hw;
        hw.cell_bits = shape.cell_bits;
        hw.mapping = mapping;
        hw.cell.programming.model = model;
        if (hw.cell.programming.model == "gaussian") {
          hw.cell.programming.sigma_levels = 0.2;
        } else {
          hw.cell.programming.sigma_ratio = 0.2;
        }
        MvmOptions options;
        options.weight_bits = 8;
        options.seed = 0x123456789ABCDEFU;
        options.chip = 3;
        options.layer = 4;
        options.first_output = shape.first_output;
        const MvmPlan plan = make_mvm_plan(hw, shape.outputs, shape.inputs, options);
        Random random(5);
        const auto w = random_weights(random, shape.outputs * shape.inputs, options.weight_bits);
        const std::vector<std::int16_t> expected = programmed_cells_reference(hw, plan, options, w.data());
        INFO(static_cast<int>(mapping) << ", " << model << ", cell_bits " << shape.cell_bits);
        on_every_isa([&] {
          const std::vector<std::int16_t> got = cpu::ProgrammedCells(hw, plan, options, w.data()).values();
          REQUIRE(got == expected);
        });
      }
    }
  }
}

namespace {

std::atomic<int> parts_run{0};

/// Parts of uneven size, each on a thread of its own, the last ones first.
void on_threads(std::int64_t count, std::int64_t grain, const cpu::ParallelBody& body) {
  std::vector<std::thread> threads;
  for (std::int64_t end = count; end > 0;) {
    const std::int64_t begin = std::max<std::int64_t>(0, end - std::max<std::int64_t>(1, grain) - (end % 3));
    threads.emplace_back([&body, begin, end] { body(begin, end); });
    end = begin;
    ++parts_run;
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("a matrix is the same however many threads program it", "[cells][threads]") {
  for (const bool stuck : {false, true}) {  // sampled one by one where cells are stuck
    Hardware hw = plain_hardware();
    hw.rows = 64;
    hw.adc = {6, AdcRange::kFullScale, AdcPlacement::kDifferential};
    hw.cell.programming = {"gaussian", 0.2};
    if (stuck) hw.cell.stuck_at = {0.1, 0.05};
    hw.cell.read = {"proportional", 0.0, std::nullopt, 0.05};
    MvmOptions options;
    options.seed = 77;
    options.first_output = 3;
    constexpr std::int64_t kOutputs = 333;
    constexpr std::int64_t kInputs = 151;
    const MvmPlan plan = make_mvm_plan(hw, kOutputs, kInputs, options);
    Random random(6);
    const auto w = random_weights(random, kOutputs * kInputs, 8);
    const auto x = random_activations(random, kInputs, 8, false);
    std::vector<float> expected(kOutputs);
    crossbar_mvm_reference({hw, w.data(), kOutputs, kInputs, options}, x.data(), 1, expected.data());
    const std::vector<std::int16_t> cells = programmed_cells_reference(hw, plan, options, w.data());
    on_every_isa([&] {
      parts_run = 0;
      cpu::use_threads(on_threads);
      const cpu::ProgrammedCells programmed(hw, plan, options, w.data());
      const cpu::CrossbarMvm mvm({hw, w.data(), kOutputs, kInputs, options});
      cpu::use_threads(nullptr);
      CHECK(parts_run > 40);
      CHECK(programmed.values() == cells);
      std::vector<float> got(kOutputs);
      mvm.run(x.data(), 1, got.data());
      CHECK(got == expected);
    });
  }
}

TEST_CASE("every model's quantiles are those of its formula, out to four sigma", "[cells]") {
  // 8 levels of 5 microsiemens from 10: level q conducts 2 + q steps.
  Hardware hw = with_window(10.0, 45.0, 3);
  const auto expect = [&](const auto& quantile) {
    const CellTables tables(hw);
    for (int level = 0; level < 8; ++level) {
      for (const double z : {-4.0, -3.0, -1.0, 0.0, 1.0, 2.5, 4.0}) {
        const double expected = std::clamp(256.0 * quantile(level, z), 0.0, 32767.0);
        INFO("level " << level << " z " << z);
        CHECK(std::abs(at_quantile(tables, level, z) - expected) <=
              0.51 + 2e-3 * std::abs(expected - 256 * (2 + level)));
      }
    }
  };
  hw.cell.programming = {"gaussian", 0.25};
  expect([](int q, double z) { return 2 + q + 0.25 * z; });
  hw.cell.programming = {"gaussian", 0.0, 2.0};  // microsiemens
  expect([](int q, double z) { return 2 + q + 0.4 * z; });
  hw.cell.programming = {"proportional", 0.0, std::nullopt, 0.05};
  expect([](int q, double z) { return (2 + q) * (1 + 0.05 * z); });
  hw.cell.programming = {"lognormal", 0.0, std::nullopt, std::nullopt, 0.1};
  expect([](int q, double z) { return (2 + q) * std::exp(0.1 * z); });
  hw.cell.programming = {"polynomial"};
  hw.cell.programming.coefficients_microsiemens = {1.0, 0.1, -0.002};
  expect([](int q, double z) {
    const double g = 10.0 + 5.0 * q;
    return 2 + q + z * std::max(0.0, 1.0 + 0.1 * g - 0.002 * g * g) / 5.0;
  });
  hw.cell.programming.reference_microsiemens = 50.0;
  expect([](int q, double z) {
    const double x = (10.0 + 5.0 * q) / 50.0;
    return 2 + q + z * (1.0 + 0.1 * x - 0.002 * x * x) / 5.0;
  });
  hw.cell.programming = {"polynomial"};
  hw.cell.programming.coefficients_levels = {0.3, -0.1};  // not below 0
  expect([](int q, double z) { return 2 + q + z * std::max(0.0, 0.3 - 0.1 * q); });
  hw.cell.programming = {"table"};
  hw.cell.programming.means_microsiemens = {11, 16, 20, 25, 31, 35, 40, 44};
  hw.cell.programming.sigmas_levels = {0.1, 0.2, 0.3, 0.0, 0.1, 0.2, 0.3, 0.4};
  expect([&](int q, double z) {
    const auto index = static_cast<std::size_t>(q);
    return hw.cell.programming.means_microsiemens->at(index) / 5 + z * hw.cell.programming.sigmas_levels->at(index);
  });
  hw.cell.drift = {0.1, 0.0, 1.0, 100.0};  // a common factor goes into the tables
  const double factor = std::pow(100.0, -0.1);
  expect([&](int q, double z) {
    const auto index = static_cast<std::size_t>(q);
    return factor *
           (hw.cell.programming.means_microsiemens->at(index) / 5 + z * hw.cell.programming.sigmas_levels->at(index));
  });
}

TEST_CASE("drift with a spread multiplies by the factor of the cell's exponent", "[cells]") {
  Hardware hw;
  hw.cell_bits = 6;
  hw.cell.drift = {0.05, 0.02, 20.0, 86400.0};
  const CellTables tables(hw);
  for (const double z : {-4.0, -2.0, 0.0, 1.0, 4.0}) {
    // A large exponent is a small factor: the lower tail of the conductance.
    const double expected = 40 * 256.0 * std::pow(86400.0 / 20.0, -(0.05 - 0.02 * z));
    CHECK(at_quantile(tables, 40, 0.0, z) == Approx(expected).epsilon(3e-3));
  }
}

TEST_CASE("stuck cells conduct exactly level 0 or the top level, whatever else happens to them", "[cells]") {
  Hardware hw = with_window(10.0, 45.0, 3);
  hw.cell.programming = {"gaussian", 0.3};
  hw.cell.stuck_at = {0.125, 0.25};
  hw.cell.drift = {0.1, 0.02, 1.0, 1000.0};
  const CellTables tables(hw);
  for (const std::uint32_t other : {0U, 12345678U, 0xffffffffU}) {
    for (int level = 0; level < 8; ++level) {
      CHECK(tables.conductance(level, other, 0x1fffffffU, other) == 2 * 256);
      CHECK(tables.conductance(level, other, 0x20000000U, other) == 9 * 256);
      CHECK(tables.conductance(level, other, 0x5fffffffU, other) == 9 * 256);
    }
    CHECK(tables.conductance(4, 0x80000000U, 0x60000000U, 0x80000000U) < 4 * 256);  // drifted
  }
  hw.cell.stuck_at = {0.0, 1.0};
  CHECK(CellTables(hw).conductance(0, 0, 0xffffffffU, 0) == 9 * 256);
}

TEST_CASE("cells of the plain Gaussian keep their bits: level plus a sample of one shared table", "[cells]") {
  Hardware hw;
  hw.cell.programming = {"gaussian", 0.1};
  const QuantileTable table = QuantileTable::gaussian(0.0, 25.6);
  const CellTables tables(hw);
  for (std::uint32_t j = 0; j < 1000; ++j) {
    const std::uint32_t word = j * 4294967U;
    CHECK(tables.conductance(9, word, 0xffffffffU, 0) == 9 * 256 + table.sample(word));
  }
}

TEST_CASE("wires take voltage from cells that are far from drivers and converters", "[cells]") {
  Hardware hw = with_window(0.0, 150.0, 4);
  hw.rows = 8;
  hw.cols = 8;
  hw.wires = {10.0, 10.0, 1.0};
  MvmOptions options;
  options.weight_bits = 5;
  const MvmPlan plan = make_mvm_plan(hw, 2, 16, options);
  CHECK(plan.fractional);
  CHECK_FALSE(plan.varies);
  const std::vector<std::int8_t> w(32, 15);
  const cpu::ProgrammedCells cells(hw, plan, options, w.data());
  const std::int16_t* column = cells.plane(0, 0);
  for (int k = 1; k < 8; ++k) CHECK(column[k] < column[k - 1]);
  CHECK(column[8] == column[0]);  // the next tile
  CHECK(column[16] < column[0]);  // the next output is further along the word line
  CHECK(column[0] < 15 * 256);
  // One cell alone is a series of three resistors.
  const std::vector<std::int8_t> one{15};
  const MvmPlan single = make_mvm_plan(hw, 1, 1, options);
  const double g = 150e-6;
  CHECK(cpu::ProgrammedCells(hw, single, options, one.data()).plane(0, 0)[0] ==
        std::lround(15 * 256 / (1.0 + 20.0 * g)));
}

}  // namespace cimq::kernels::testing
