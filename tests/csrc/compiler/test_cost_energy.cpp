#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>

#include "compiler/cost/energy.h"

using Catch::Matchers::Contains;
using cimq::Hardware;
using cimq::Mapping;
using cimq::compiler::energy;
using cimq::compiler::EnergyPart;
using cimq::compiler::LayerShape;

namespace {

std::int64_t part(const cimq::compiler::EnergyCost& cost, EnergyPart which) {
  return cost.part_fj[static_cast<std::size_t>(which)];
}

/// Every event of a component costs so many picojoules that the components can be told apart.
Hardware described() {
  Hardware hw;
  hw.energy = {.write_energy_pj = 1000.0,
               .mvm_energy_pj = 100.0,
               .adc_energy_pj = 1.5,
               .dac_energy_pj = 0.25,
               .digital_energy_pj = 0.02,
               .buffer_energy_pj_per_byte = 2.0,
               .bus_energy_pj_per_byte = 0.5};
  return hw;
}

}  // namespace

TEST_CASE("energy counts events by hand", "[energy]") {
  Hardware hw = described();
  // W8A4 on 4-bit cells: 2 * 70 * 2 = 280 columns in 2 arrays, 300 rows in 2; 4 digits; 12 heads of 50 vectors.
  const LayerShape heads{"heads", 70, 300, 50, 12};
  auto cost = energy(hw, heads, 8, 4);
  const std::int64_t steps = 12 * 50 * 4;
  CHECK(part(cost, EnergyPart::kWrite) == 12 * 4 * 1'000'000LL);
  CHECK(part(cost, EnergyPart::kMvm) == steps * 4 * 100'000);
  CHECK(part(cost, EnergyPart::kAdc) == steps * 2 * 140 * 1500);  // a pair is one conversion, in each row tile
  CHECK(part(cost, EnergyPart::kDac) == steps * 2 * 300 * 250);   // every column tile drives the rows
  CHECK(part(cost, EnergyPart::kDigital) == steps * 2 * 140 * 20);
  CHECK(part(cost, EnergyPart::kBuffer) == 12 * 50 * (150 + 70) * 2000);
  CHECK(part(cost, EnergyPart::kBus) == 12 * 50 * (150 + 70) * 500);
  std::int64_t sum = 0;
  for (const std::int64_t fj : cost.part_fj) sum += fj;
  CHECK(cost.total_fj() == sum);

  hw.adc.placement = cimq::AdcPlacement::kPerColumn;
  CHECK(part(energy(hw, heads, 8, 4), EnergyPart::kAdc) == steps * 2 * 280 * 1500);
  hw.mapping = Mapping::kDifferentialRow;  // 140 columns in one array, 600 rows in 3
  cost = energy(hw, heads, 8, 4);
  CHECK(part(cost, EnergyPart::kAdc) == steps * 3 * 140 * 1500);
  CHECK(part(cost, EnergyPart::kDac) == steps * 600 * 250);
  hw.mapping = Mapping::kOffset;  // 141 columns: the reference column is converted as well
  CHECK(part(energy(hw, heads, 8, 4), EnergyPart::kAdc) == steps * 2 * 141 * 1500);
}

TEST_CASE("the energy table holds every pair", "[energy]") {
  const Hardware hw = described();
  const LayerShape shape{"l", 130, 300, 7, 2};
  const std::vector<int> bits{2, 5, 8};
  const auto table = cimq::compiler::energy_table(hw, shape, bits);
  for (std::size_t w = 0; w < bits.size(); ++w) {
    for (std::size_t a = 0; a < bits.size(); ++a) {
      CHECK(table[w * bits.size() + a] == energy(hw, shape, bits[w], bits[a]).total_fj());
    }
  }
}

TEST_CASE("energy refuses what it cannot count", "[energy]") {
  const LayerShape shape{"l", 10, 10, 1, 1};
  CHECK_THROWS_WITH(energy(Hardware{}, shape, 8, 8), Contains("must describe the energy of at least one component"));
  Hardware hw = described();
  CHECK_THROWS_WITH(energy(hw, {"l", 0, 10, 1, 1}, 8, 8), Contains("'l': outputs must be at least 1"));
  CHECK_THROWS_WITH(energy(hw, shape, 9, 8), Contains("weight_bits must be from 1 to 8"));
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max() / 10'000'000LL;
  CHECK_THROWS_WITH(energy(hw, {"l", 4000, 4000, huge, 1}, 8, 8), Contains("exceeds 63 bits"));
}
