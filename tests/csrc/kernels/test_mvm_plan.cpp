#include <catch2/catch.hpp>
#include <limits>
#include <vector>

#include "common/error.h"
#include "kernels/formula/adc.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels {
namespace {

MvmPlan plan_of(const Hardware& hw, int weight_bits, int act_bits, bool act_signed = false, std::int64_t inputs = 300,
                std::int64_t outputs = 10) {
  MvmOptions options;
  options.weight_bits = weight_bits;
  options.act_bits = act_bits;
  options.act_signed = act_signed;
  return make_mvm_plan(hw, outputs, inputs, options);
}

}  // namespace

TEST_CASE("digits, slices and tiles follow the mapping", "[plan]") {
  Hardware hw;  // 256 x 256, c = 4, d = 1
  MvmPlan plan = plan_of(hw, 8, 6);
  CHECK(plan.n_x == 6);
  CHECK(plan.n_w == 2);
  CHECK(plan.row_tiles == 2);
  CHECK(plan.columns == 2 * 10 * 2);
  CHECK(plan.rows_needed == 300);
  CHECK(plan.slices[1].weight == 16);

  hw.mapping = Mapping::kDifferentialRow;
  plan = plan_of(hw, 8, 6);
  CHECK(plan.inputs_per_tile == 128);
  CHECK(plan.row_tiles == 3);
  CHECK(plan.columns == 20);
  CHECK(plan.rows_needed == 600);

  hw.mapping = Mapping::kOffset;
  plan = plan_of(hw, 8, 6);
  CHECK(plan.columns == 21);
  CHECK(plan.weight_shift == 128);

  hw.mapping = Mapping::kDifferentialColumn;
  hw.sign_magnitude = true;
  CHECK(plan_of(hw, 5, 8).n_w == 1);  // four magnitude bits
  CHECK(plan_of(hw, 1, 8).n_w == 1);
  hw.sign_magnitude = false;
  CHECK(plan_of(hw, 5, 8).n_w == 2);
}

TEST_CASE("signed activations: negative top digit with one-bit drivers, shifted with wider ones", "[plan]") {
  Hardware hw;
  MvmPlan plan = plan_of(hw, 8, 4, true);
  CHECK(plan.digit_weights == std::vector<std::int32_t>{1, 2, 4, -8});
  CHECK(plan.input_shift == 0);
  hw.dac_bits = 3;
  plan = plan_of(hw, 8, 4, true);
  CHECK(plan.digit_weights == std::vector<std::int32_t>{1, 8});
  CHECK(plan.input_shift == 8);
  CHECK(plan_of(hw, 8, 4, false).input_shift == 0);
}

TEST_CASE("the converter's codes and steps follow range, placement and mapping", "[plan]") {
  Hardware hw;
  hw.rows = 100;
  hw.cell_bits = 2;
  hw.adc = {6, AdcRange::kFullScale, AdcPlacement::kPerColumn};
  MvmPlan plan = plan_of(hw, 8, 8);
  CHECK(plan.separate_columns);
  CHECK_FALSE(plan.signed_codes);
  CHECK(plan.levels == 64);
  CHECK(plan.code_min == 0);
  CHECK(plan.code_max == 63);
  CHECK(plan.slices[1].lsb == 300.0 / 63.0);
  CHECK(plan.slices[1].inv_lsb == static_cast<float>(1.0 / (300.0 / 63.0)));
  CHECK(plan.slices[1].scale == static_cast<float>(4.0 * (300.0 / 63.0)));
  CHECK_FALSE(plan.exact);

  hw.adc.placement = AdcPlacement::kDifferential;
  plan = plan_of(hw, 8, 8);
  CHECK(plan.signed_codes);
  CHECK(plan.levels == 63);
  CHECK(plan.code_min == -31);
  CHECK(plan.code_max == 31);
  CHECK(plan.slices[0].lsb == 600.0 / 62.0);

  hw.mapping = Mapping::kDifferentialRow;
  CHECK(plan_of(hw, 8, 8).slices[0].lsb == 300.0 / 62.0);  // 50 inputs per tile

  hw.adc.range = AdcRange::kGranular;
  hw.adc.bits = 9;  // 2 * 150 / 510 < 1
  plan = plan_of(hw, 8, 8);
  CHECK(plan.slices[0].lsb == 1.0);
  CHECK(plan.exact);
  CHECK(plan.collapses);
  hw.adc.range = AdcRange::kFullScale;
  CHECK_FALSE(plan_of(hw, 8, 8).exact);
}

TEST_CASE("a unit step that clips is exact but does not collapse", "[plan]") {
  Hardware hw;
  hw.adc = {3, AdcRange::kCalibrated, AdcPlacement::kDifferential};
  MvmOptions options;
  options.adc_lo = {0, 0};
  options.adc_lsb = {1.0, 1.0};
  MvmPlan plan = make_mvm_plan(hw, 4, 10, options);
  CHECK(plan.exact);
  CHECK_FALSE(plan.collapses);
  hw.adc.bits = 9;  // codes to 255, currents to 150
  plan = make_mvm_plan(hw, 4, 10, options);
  CHECK(plan.collapses);
  options.allow_collapse = false;
  CHECK_FALSE(make_mvm_plan(hw, 4, 10, options).collapses);
}

TEST_CASE("impossible hardware and options are refused by name", "[plan][errors]") {
  const auto refused = [](const Hardware& hw, const MvmOptions& options, const char* text, std::int64_t outputs = 4,
                          std::int64_t inputs = 10) {
    CHECK_THROWS_WITH(make_mvm_plan(hw, outputs, inputs, options), Catch::Contains(text));
  };
  const auto hardware = [](auto change) {
    Hardware hw;
    change(hw);
    return hw;
  };
  const auto with = [](auto change) {
    MvmOptions options;
    change(options);
    return options;
  };
  const MvmOptions good;
  refused({}, good, "outputs must lie in", 0);
  refused({}, good, "inputs must lie in", 4, 0);
  refused({}, with([](auto& o) { o.weight_bits = 9; }), "weight_bits must lie in 1..8, got 9");
  refused({}, with([](auto& o) { o.act_bits = 0; }), "act_bits must lie in 1..8, got 0");
  refused({}, with([](auto& o) { o.first_output = -1; }), "first_output");
  refused(hardware([](auto& h) { h.rows = 0; }), good, "rows must lie in");
  refused(hardware([](auto& h) { h.cols = 0; }), good, "cols must lie in");
  refused(hardware([](auto& h) { h.cell_bits = 9; }), good, "cell_bits must lie in 1..8, got 9");
  refused(hardware([](auto& h) { h.dac_bits = 9; }), good, "dac_bits must lie in 1..8, got 9");
  refused(hardware([](auto& h) { h.adc.bits = 17; }), good, "adc.bits must lie in 1..16, got 17");
  refused(hardware([](auto& h) { h.adc.bits = 1; }), good, "needs adc.bits >= 2, got 1");
  refused(hardware([](auto& h) {
            h.mapping = Mapping::kDifferentialRow;
            h.rows = 1;
          }),
          good, "rows >= 2");
  refused(hardware([](auto& h) {
            h.mapping = Mapping::kOffset;
            h.sign_magnitude = true;
          }),
          good, "sign_magnitude");
  refused(hardware([](auto& h) { h.cell.programming.model = "weibull"; }), good, "weibull");
  refused(hardware([](auto& h) { h.cell.programming = {"gaussian", -1.0}; }), good, "sigma_levels");
  refused(hardware([](auto& h) {
            h.mapping = Mapping::kOffset;
            h.cell_bits = 8;
            h.cell.programming = {"gaussian", 0.1};
          }),
          good, "cell_bits must be at most 6");
}

TEST_CASE("ranges that do not fit the converter are refused", "[plan][errors]") {
  Hardware hw;
  MvmOptions options;
  options.adc_lsb = {1.0, 1.0};
  options.adc_lo = {0, 0};
  CHECK_THROWS_WITH(make_mvm_plan(hw, 4, 10, options), Catch::Contains("calibrated or learned"));
  hw.adc = {4, AdcRange::kFullScale, AdcPlacement::kDifferential};
  CHECK_THROWS_WITH(make_mvm_plan(hw, 4, 10, options), Catch::Contains("calibrated or learned"));
  hw.adc.range = AdcRange::kLearned;
  CHECK_NOTHROW(make_mvm_plan(hw, 4, 10, options));
  options.adc_lo = {0, 1};
  CHECK_THROWS_WITH(make_mvm_plan(hw, 4, 10, options),
                    Catch::Contains("adc_lo must be 0") && Catch::Contains("slice 1"));
  options.adc_lo = {0, 0};
  for (const double lsb : {0.0, -1.0, 1e-50, std::numeric_limits<double>::quiet_NaN()}) {
    options.adc_lsb = {1.0, lsb};
    CHECK_THROWS_WITH(make_mvm_plan(hw, 4, 10, options), Catch::Contains("adc_lsb"));
  }
  options.adc_lsb = {1.0};
  CHECK_THROWS_WITH(make_mvm_plan(hw, 4, 10, options), Catch::Contains("one value per weight slice (2)"));
  hw.adc.placement = AdcPlacement::kPerColumn;
  options.adc_lsb = {1.0, 1.0};
  options.adc_lo = {0, std::numeric_limits<std::int32_t>::min()};
  CHECK_THROWS_WITH(make_mvm_plan(hw, 4, 10, options), Catch::Contains("current of a tile must fit int32"));
}

TEST_CASE("ranges per column belong to outputs of the layer", "[plan]") {
  Hardware hw;
  hw.adc = {6, AdcRange::kCalibrated, AdcPlacement::kPerColumn, AdcGranularity::kColumn};
  MvmOptions options;
  options.adc_columns = 3;
  options.adc_lo = {0, 1, 2, 3, 4, 5};
  options.adc_lsb = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0};
  MvmPlan plan = make_mvm_plan(hw, 3, 10, options);
  CHECK(plan.by_column());
  CHECK_FALSE(plan.exact);
  CHECK(plan.range(1, 2).lo == 5);
  CHECK(plan.range(1, 2).weight == 16);
  CHECK(plan.range(1, 2).inv_lsb == static_cast<float>(1.0 / 6.0));
  CHECK(plan.range(1, 2).scale == 96.0F);
  options.first_output = 1;  // the second matrix of a layer
  plan = make_mvm_plan(hw, 2, 10, options);
  CHECK(plan.range(0, 0).lsb == 2.0);
  CHECK(plan.range(1, 1).lo == 5);

  options.first_output = 0;
  options.adc_lo.assign(6, 0);
  options.adc_lsb.assign(6, 1.0);
  CHECK(make_mvm_plan(hw, 3, 10, options).exact);
  options.adc_lsb[4] = 1.5;
  CHECK_FALSE(make_mvm_plan(hw, 3, 10, options).exact);

  hw.mapping = Mapping::kOffset;
  hw.dac_bits = 8;
  options.adc_lo = {0, 1, 0, 0, 0, 2};
  plan = make_mvm_plan(hw, 3, 10, options);
  CHECK(plan.lo_constant(0) == 0.0F);
  CHECK(plan.lo_constant(1) == 1.0F);
  CHECK(plan.lo_constant(2) == 32.0F);
  CHECK(plan.zero_input_is_zero_code());
  options.adc_lo[2] = -1;
  CHECK_FALSE(make_mvm_plan(hw, 3, 10, options).zero_input_is_zero_code());

  MvmOptions of_slices;  // all columns alike
  of_slices.adc_lo = {0, 0};
  of_slices.adc_lsb = {1.0, 2.0};
  CHECK_FALSE(make_mvm_plan(hw, 3, 10, of_slices).by_column());
}

TEST_CASE("ranges per column that do not fit are refused by their place", "[plan][errors]") {
  Hardware hw;
  hw.adc = {6, AdcRange::kLearned, AdcPlacement::kDifferential, AdcGranularity::kColumn};
  MvmOptions options;
  options.adc_columns = 3;
  options.adc_lo.assign(6, 0);
  options.adc_lsb.assign(6, 1.0);
  CHECK_NOTHROW(make_mvm_plan(hw, 3, 10, options));
  CHECK_THROWS_WITH(make_mvm_plan(hw, 4, 10, options), Catch::Contains("of which there are 4, got 3"));
  options.first_output = 1;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 3, 10, options), Catch::Contains("of which there are 4, got 3"));
  options.first_output = 0;
  options.adc_lsb[4] = 0.0;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 3, 10, options), Catch::Contains("got 0 for slice 1, output 1"));
  options.adc_lsb[4] = 1.0;
  options.adc_lo[2] = 7;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 3, 10, options), Catch::Contains("got 7 for slice 0, output 2"));
  options.adc_lo.pop_back();
  CHECK_THROWS_WITH(make_mvm_plan(hw, 3, 10, options), Catch::Contains("must be [2, 3]") && Catch::Contains("5 and 6"));
  options.adc_lo.assign(6, 0);
  hw.adc.granularity = AdcGranularity::kSlice;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 3, 10, options), Catch::Contains("belong to adc.granularity column, got slice"));
  hw.adc.granularity = AdcGranularity::kColumn;
  hw.adc.placement = AdcPlacement::kPerColumn;
  options.adc_lo[5] = std::numeric_limits<std::int32_t>::min();
  CHECK_THROWS_WITH(make_mvm_plan(hw, 3, 10, options), Catch::Contains("slice 1, output 2 can reach 2147483"));
  hw.adc = {16, AdcRange::kLearned, AdcPlacement::kPerColumn, AdcGranularity::kColumn};
  hw.rows = 4;
  options.adc_lo.assign(6, 0);
  options.adc_lsb.assign(6, 1.0);
  options.adc_lsb[1] = 1e-4;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 3, 4 * 129, options),
                    Catch::Contains("sum of codes") && Catch::Contains("slice 0, output 1"));
}

TEST_CASE("sums that could leave int32 are refused with the bound", "[plan][errors]") {
  Hardware hw;
  CHECK_NOTHROW(plan_of(hw, 8, 8, false, 66311));
  CHECK_THROWS_WITH(plan_of(hw, 8, 8, false, 66312), Catch::Contains("66312 inputs") && Catch::Contains("2147483647"));
  CHECK_NOTHROW(plan_of(hw, 1, 1, false, std::numeric_limits<std::int32_t>::max(), 1));

  hw.rows = 4;  // many tiles of full-range 16-bit codes
  hw.adc = {16, AdcRange::kFullScale, AdcPlacement::kPerColumn};
  CHECK_NOTHROW(plan_of(hw, 8, 8, false, 4 * 128));
  CHECK_THROWS_WITH(plan_of(hw, 8, 8, false, 4 * 129),
                    Catch::Contains("sum of codes") && Catch::Contains("129 row tiles"));

  Hardware noisy;
  noisy.rows = 1024;
  noisy.dac_bits = 8;
  noisy.cell_bits = 6;
  noisy.adc.bits = 8;
  noisy.cell.programming = {"gaussian", 1.0};
  CHECK_THROWS_WITH(plan_of(noisy, 8, 8, false, 1024), Catch::Contains("1/256 level"));
  CHECK_NOTHROW(plan_of(noisy, 8, 8, false, 256));

  Hardware clipping;  // exact int32 that clips
  clipping.adc = {8, AdcRange::kCalibrated, AdcPlacement::kPerColumn};
  clipping.rows = 64;
  MvmOptions options;
  options.adc_lo = {0, 0};
  options.adc_lsb = {1.0, 1.0};
  CHECK_NOTHROW(make_mvm_plan(clipping, 4, 64, options));
  CHECK_THROWS_WITH(make_mvm_plan(clipping, 4, 64 * 2000, options), Catch::Contains("must fit int32"));
}

TEST_CASE("weights out of range are refused with their place", "[plan][errors]") {
  const std::vector<std::int8_t> w{1, -7, 8};
  CHECK_NOTHROW(check_weights(w.data(), 3, 5));
  CHECK_THROWS_WITH(check_weights(w.data(), 3, 4), Catch::Contains("-7..7, got 8 at index 2"));
  const std::vector<std::int8_t> narrow{-128};
  CHECK_THROWS_WITH(check_weights(narrow.data(), 1, 8), Catch::Contains("-127..127"));
  const std::vector<std::int8_t> binary{1, 0};
  CHECK_THROWS_WITH(check_weights(binary.data(), 2, 1), Catch::Contains("-1 or +1, got 0 at index 1"));
}

TEST_CASE("converter codes round half to even and clip at any current", "[adc]") {
  CHECK(adc_code(5, 0.5F, 0, 15) == 2);
  CHECK(adc_code(7, 0.5F, 0, 15) == 4);
  CHECK(adc_code(-5, 0.5F, -7, 7) == -2);
  CHECK(adc_code(-5, 0.5F, 0, 15) == 0);
  CHECK(adc_code(std::numeric_limits<std::int32_t>::max(), 1e30F, 0, 65535) == 65535);
  CHECK(adc_code(std::numeric_limits<std::int32_t>::min(), 1e30F, -32767, 32767) == -32767);
}

}  // namespace cimq::kernels
