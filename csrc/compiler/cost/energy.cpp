#include "compiler/cost/energy.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"
#include "compiler/cost/durations.h"

namespace cimq::compiler {
namespace {

constexpr double kFemtojoulesPerPicojoule = 1e3;

/// What a component takes for each event, whole femtojoules; nullopt where the machine does not say.
std::array<std::optional<std::int64_t>, kEnergyParts> energies(const Hardware& hw) {
  const Energy& e = hw.energy;
  const std::array<std::optional<double>, kEnergyParts> given = {
      e.write_energy_pj,           e.mvm_energy_pj,         e.adc_energy_pj, e.dac_energy_pj, e.digital_energy_pj,
      e.buffer_energy_pj_per_byte, e.bus_energy_pj_per_byte};
  std::array<std::optional<std::int64_t>, kEnergyParts> found;
  std::ranges::transform(given, found.begin(), [](const std::optional<double>& pj) {
    return pj ? std::optional(static_cast<std::int64_t>(round_half_even(*pj * kFemtojoulesPerPicojoule)))
              : std::nullopt;
  });
  return found;
}

}  // namespace

bool describes_energy(const Hardware& hw) {
  return std::ranges::any_of(energies(hw), [](const auto& fj) { return fj.has_value(); });
}

std::int64_t EnergyCost::total_fj() const { return std::accumulate(part_fj.begin(), part_fj.end(), std::int64_t{0}); }

EnergyCost energy(const Hardware& hw, const LayerShape& shape, int weight_bits, int act_bits) {
  const Tier1Cost events = tier1(hw, shape, weight_bits, act_bits);  // checks sizes and bits
  const auto product = [&](std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    check(!__builtin_mul_overflow(a, b, &result), "energy: layer '", shape.name, "': a count exceeds 63 bits (", a,
          " * ", b, ")");
    return result;
  };
  const std::int64_t columns = physical_columns(hw.mapping, shape.outputs, weight_slices(hw, weight_bits));
  const std::int64_t rows = physical_rows(hw.mapping, shape.inputs);
  const std::int64_t row_tiles = arrays_for(rows, hw.rows);
  const std::int64_t vectors = product(shape.repeats, shape.invocations);
  const std::int64_t steps = product(vectors, input_digits(hw, act_bits));
  const std::int64_t conversions = product(steps, product(row_tiles, converted_lines(hw, 0, columns)));
  const std::int64_t drives = product(steps, product(arrays_for(columns, hw.cols), rows));
  const std::int64_t bits = product(shape.inputs, act_bits);
  const std::int64_t input_bytes = bits / 8 + (bits % 8 != 0 ? 1 : 0);
  const std::int64_t bytes =
      product(vectors, checked_sum(input_bytes, shape.outputs, "the bytes of layer '" + shape.name + "'"));

  return energy_of(hw, {events.writes, events.mvms, conversions, drives, conversions, bytes, bytes},
                   "layer '" + shape.name + "'");
}

EnergyCost energy_of(const Hardware& hw, const EnergyEvents& events, const std::string& what) {
  check(describes_energy(hw), "energy: hardware '", hw.name,
        "' must describe the energy of at least one component (energy.mvm_energy_pj, energy.adc_energy_pj, ...)");
  const auto each = energies(hw);
  EnergyCost cost;
  std::int64_t total = 0;
  for (std::size_t part = 0; part < kEnergyParts; ++part) {
    check(!__builtin_mul_overflow(events[part], each[part].value_or(0), &cost.part_fj[part]), "energy: ", what,
          ": an energy in femtojoules exceeds 63 bits (", events[part], " * ", each[part].value_or(0), ")");
    total = checked_sum(total, cost.part_fj[part], "the energy of " + what + " in femtojoules");
  }
  return cost;
}

std::vector<std::int64_t> energy_table(const Hardware& hw, const LayerShape& shape, const std::vector<int>& bits) {
  std::vector<std::int64_t> energies;
  energies.reserve(bits.size() * bits.size());
  for (const int weight_bits : bits) {
    for (const int act_bits : bits) energies.push_back(energy(hw, shape, weight_bits, act_bits).total_fj());
  }
  return energies;
}

}  // namespace cimq::compiler
