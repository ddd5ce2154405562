// Closed-form energy of one inference: counted events times the energies of the hardware description. Integers
// throughout; energy in femtojoules.
//
// For a layer of R matrices [m, n] with I input vectors of ceil(a/d) digits each, in T = Tr * Tc tiles (rows, columns):
//   write    R * T crossbars are programmed
//   mvm      R * I * ceil(a/d) * T crossbars are activated
//   adc      R * I * ceil(a/d) * Tr * C conversions; C: columns of the layer, one for a pair subtracted before (and the
//            reference column of the offset mapping, in every row tile)
//   dac      R * I * ceil(a/d) * Tc * (rows of the layer) word lines are driven
//   digital  a shift-and-add for every conversion
//   buffer   R * I * (ceil(n * a / 8) bytes read + m bytes written: an activation has at most 8 bits)
//   bus      the same bytes
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/hardware.h"
#include "compiler/cost/tier1.h"

namespace cimq::compiler {

/// Femtojoules by component, in this order; 0 for a component whose energy the machine does not describe.
enum class EnergyPart { kWrite, kMvm, kAdc, kDac, kDigital, kBuffer, kBus };
inline constexpr std::size_t kEnergyParts = 7;
inline constexpr std::array<const char*, kEnergyParts> kEnergyPartNames = {"write",   "mvm",    "adc", "dac",
                                                                           "digital", "buffer", "bus"};

struct EnergyCost {
  std::array<std::int64_t, kEnergyParts> part_fj{};
  std::int64_t total_fj() const;
};

/// Events by component: of write and mvm crossbars, of adc, dac and digital lines, of buffer and bus bytes.
using EnergyEvents = std::array<std::int64_t, kEnergyParts>;

/// Whether the machine describes the energy of at least one component.
bool describes_energy(const Hardware& hw);

/// Energy of counted events; `what` names them in errors. Throws Error where the machine describes no energy at all,
/// and beyond 63 bits.
EnergyCost energy_of(const Hardware& hw, const EnergyEvents& events, const std::string& what);

/// Energy of one layer. Throws Error as tier1, and where the machine describes no energy at all.
EnergyCost energy(const Hardware& hw, const LayerShape& shape, int weight_bits, int act_bits);

/// total_fj() for every pair of `bits`, as [w index * bits.size() + a index].
std::vector<std::int64_t> energy_table(const Hardware& hw, const LayerShape& shape, const std::vector<int>& bits);

}  // namespace cimq::compiler
