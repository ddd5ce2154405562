// Energy and area of converters at other bits than those of the machine.
#include <catch2/catch.hpp>

#include "common/error.h"
#include "compiler/cost/converter_scaling.h"

using namespace cimq::compiler;
using cimq::Hardware;

namespace {

Hardware with_converters(int bits) {
  Hardware hw;
  hw.adc.bits = bits;
  hw.energy.adc_energy_pj = 3.34;
  hw.area.adc_area_um2 = 2400.0;
  hw.sources = {{"energy.adc_energy_pj", "a paper"}};
  return hw;
}

}  // namespace

TEST_CASE("A conversion's energy is scaled by the table", "[energy]") {
  const Hardware hw = with_converters(8);
  const Hardware own = energy_hardware(hw, {4, std::nullopt}, "fc");
  CHECK(own.energy.adc_energy_pj.value() == Approx(2 * 0.79));
  CHECK(own.adc.bits == 4);
  CHECK(own.sources.empty());
  CHECK(energy_hardware(hw, {10, std::nullopt}, "fc").energy.adc_energy_pj.value() == Approx(2 * 2.38));
  CHECK(energy_hardware(hw, {8, std::nullopt}, "fc").to_json() == hw.to_json());
  CHECK(energy_hardware(with_converters(12), {12, std::nullopt}, "fc").energy.adc_energy_pj == 3.34);
}

TEST_CASE("A machine's converters are as large as the largest that are used", "[area]") {
  const Hardware hw = with_converters(8);
  CHECK(area_hardware(hw, {4, std::nullopt}, "fc").area.adc_area_um2 == 2400.0);
  CHECK(area_hardware(hw, {9, std::nullopt}, "fc").area.adc_area_um2.value() == Approx(2 * 1828.0));
}

TEST_CASE("Bits that the table does not hold are refused where the number is given", "[energy]") {
  CHECK_THROWS_WITH(energy_hardware(with_converters(8), {3, std::nullopt}, "fc"),
                    Catch::Contains("layer 'fc' has 3-bit converters and hardware 'custom' those of 8 bits: how the "
                                    "energy of a conversion changes is known for 4 to 10 bits"));
  CHECK_THROWS_WITH(energy_hardware(with_converters(12), {8, std::nullopt}, "fc"), Catch::Contains("those of 12 bits"));
  CHECK_THROWS_WITH(area_hardware(with_converters(8), {11, std::nullopt}, ""),
                    Catch::Contains("a layer has 11-bit converters"));
  Hardware silent = with_converters(8);
  silent.energy.adc_energy_pj.reset();
  CHECK_FALSE(energy_hardware(silent, {3, std::nullopt}, "fc").energy.adc_energy_pj.has_value());
}
