#include "compiler/cost/converter_scaling.h"

#include <array>
#include <cstddef>
#include <string>

#include "common/error.h"
#include "common/printable.h"

namespace cimq::compiler {
namespace {

// Converters that compare bit by bit (SAR), 32 nm, 1.2 GS/s, whose share of the capacitive DAC grows with 2^bits
// (Saberi et al., IEEE TCAS-I 58(8), 2011), scaled from the 8-bit converter of ISAAC (Shafiee et al., ISCA 2016,
// doi 10.1109/ISCA.2016.12). The values are those in the comments of isaac.py in
// Accelergy-Project/hwcomponents-library.
constexpr int kFewestBits = 4;
constexpr std::array kEnergyPj = {0.79, 0.99, 1.20, 1.42, 1.67, 1.97, 2.38};
constexpr std::array kAreaUm2 = {361.0, 477.0, 627.0, 845.0, 1200.0, 1828.0, 3002.0};
constexpr int kMostBits = kFewestBits + static_cast<int>(kEnergyPj.size()) - 1;

bool is_known(int bits) { return bits >= kFewestBits && bits <= kMostBits; }

template <std::size_t Count>
double ratio(const std::array<double, Count>& table, const char* what, const Hardware& hardware, int bits,
             std::string_view layer) {
  const int own = hardware.adc.bits.value_or(0);
  const std::string where = layer.empty() ? "a layer" : message("layer '", printable(layer), "'");
  check(is_known(bits) && is_known(own), where, " has ", bits, "-bit converters and hardware '", hardware.name,
        "' those of ", own, " bits: how ", what, " changes is known for ", kFewestBits, " to ", kMostBits,
        " bits (docs/numbers.md); choose others, or give hardware without it");
  return table[static_cast<std::size_t>(bits - kFewestBits)] / table[static_cast<std::size_t>(own - kFewestBits)];
}

}  // namespace

Hardware energy_hardware(const Hardware& hardware, const LayerMachine& machine, std::string_view layer) {
  Hardware own = layer_hardware(hardware, machine, layer);
  const double energy = hardware.energy.adc_energy_pj.value_or(0.0);
  if (!machine.adc_bits || machine.adc_bits == hardware.adc.bits || energy == 0.0) return own;
  own.energy.adc_energy_pj =
      energy * ratio(kEnergyPj, "the energy of a conversion", hardware, *machine.adc_bits, layer);
  own.sources.erase("energy.adc_energy_pj");
  return own;
}

Hardware area_hardware(const Hardware& hardware, const LayerMachine& machine, std::string_view layer) {
  Hardware own = layer_hardware(hardware, machine, layer);
  const double area = hardware.area.adc_area_um2.value_or(0.0);
  if (!machine.adc_bits || *machine.adc_bits <= hardware.adc.bits.value_or(0) || area == 0.0) return own;
  own.area.adc_area_um2 = area * ratio(kAreaUm2, "the area of a converter", hardware, *machine.adc_bits, layer);
  own.sources.erase("area.adc_area_um2");
  return own;
}

}  // namespace cimq::compiler
