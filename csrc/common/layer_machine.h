// The machine of one layer: that of the network, with what the policy chooses for the layer (docs/numbers.md, "Layers
// that are not as the machine").
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/hardware.h"

namespace cimq {

/// What a layer has otherwise than the machine says; nullopt: as the machine.
struct LayerMachine {
  std::optional<int> adc_bits;     ///< of its conversions, 1..16
  std::optional<Mapping> mapping;  ///< how its weights are stored

  bool operator==(const LayerMachine&) const = default;
  bool is_as_the_machine() const { return !adc_bits && !mapping; }
};

inline constexpr int kMaxLayerAdcBits = 16;

/// "4-bit converters, offset"; empty for a layer that is as the machine.
std::string text_of(const LayerMachine& machine);

/// The mapping of this name; nullopt if there is none.
std::optional<Mapping> mapping_named(std::string_view name);

/// The machine that a layer computes with. `sign_magnitude` says how a pair of cells holds a sign: a layer with the
/// mapping offset has no pair, and not that field. Energies and times stay those of the machine.
/// Throws Error naming `layer` for ADC bits on a machine with ideal converters, and for a choice that the machine
/// cannot have.
Hardware layer_hardware(const Hardware& hardware, const LayerMachine& machine, std::string_view layer);

}  // namespace cimq
