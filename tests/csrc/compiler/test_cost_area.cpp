// Area and power of machines, by hand and against what is published of ISAAC and PUMA (docs/machines.md).
#include <catch2/catch.hpp>

#include "compiler/cost/area.h"

using namespace cimq::compiler;
using cimq::Hardware;

namespace {

double part(const AreaCost& cost, AreaPart which) { return cost.part_um2[static_cast<std::size_t>(which)].value(); }

}  // namespace

TEST_CASE("Area counts components by hand", "[area]") {
  Hardware hw;  // 256 x 256, pairs of columns
  hw.area = {.crossbar_area_um2 = 1000.0,
             .adc_area_um2 = 100.0,
             .dac_area_um2 = 0.5,
             .sample_hold_area_um2 = 0.25,
             .digital_area_um2 = 10.0,
             .buffer_area_um2_per_byte = 2.0,
             .bus_area_um2 = 7.0,
             .vector_area_um2 = 3.0};
  AreaCost cost = area(hw, 10);
  CHECK(part(cost, AreaPart::kCrossbar) == 10 * 1000.0);
  CHECK(part(cost, AreaPart::kAdc) == 10 * 128 * 100.0);  // a converter for every pair
  CHECK(part(cost, AreaPart::kDac) == 10 * 256 * 0.5);
  CHECK(part(cost, AreaPart::kSampleHold) == 10 * 128 * 0.25);
  CHECK(part(cost, AreaPart::kDigital) == 10 * 10.0);
  CHECK(part(cost, AreaPart::kBuffer) == 0.0);
  CHECK(part(cost, AreaPart::kBus) == 10 * 7.0);
  CHECK(part(cost, AreaPart::kVector) == 0.0);
  hw.resources.adcs_per_crossbar = 4;
  hw.resources.buffer_bytes = 4096;
  hw.resources.vector_lanes = 64;
  hw.adc.placement = cimq::AdcPlacement::kPerColumn;
  cost = area(hw, 10);
  CHECK(part(cost, AreaPart::kAdc) == 10 * 4 * 100.0);
  CHECK(part(cost, AreaPart::kSampleHold) == 10 * 256 * 0.25);
  CHECK(part(cost, AreaPart::kBuffer) == 4096 * 2.0);
  CHECK(part(cost, AreaPart::kVector) == 64 * 3.0);
  CHECK(cost.total_um2() == Approx(10'000 + 4'000 + 1'280 + 640 + 100 + 8'192 + 70 + 192));
  CHECK_FALSE(area(Hardware{}, 10).part_um2[0].has_value());
  CHECK(area(Hardware{}, 10).total_um2() == 0.0);
}

TEST_CASE("Busy power is the energy of a digit over its time", "[area]") {
  Hardware hw;
  hw.timing.mvm_time_us = 0.1;
  hw.energy.mvm_energy_pj = 30.0;
  hw.energy.adc_energy_pj = 2.0;
  hw.energy.dac_energy_pj = 0.5;
  hw.energy.buffer_energy_pj_per_byte = 1.0;
  const PowerCost cost = busy_power(hw, 4);
  CHECK(cost.part_mw[0].value() == Approx(4 * 0.3));          // mvm: 30 pJ in 100 ns
  CHECK(cost.part_mw[1].value() == Approx(4 * 128 * 0.02));   // adc
  CHECK(cost.part_mw[2].value() == Approx(4 * 256 * 0.005));  // dac
  CHECK_FALSE(cost.part_mw[3].has_value());                   // digital
  // buffer: 256 inputs in and 256 / (2 * 2 slices) results out, in 8 digits
  CHECK(cost.part_mw[4].value() == Approx(4 * (256 + 64) / 8.0 * 0.01));
  CHECK(cost.total_mw() == Approx(1.2 + 10.24 + 5.12 + 1.6));
  hw.timing.adc_time_us = 0.1;
  hw.resources.adcs_per_crossbar = 64;  // converters take two rounds: half the rate
  CHECK(busy_power(hw, 4).total_mw() == Approx(cost.total_mw() / 2));
}
