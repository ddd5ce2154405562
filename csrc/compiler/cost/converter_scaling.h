// What a conversion takes, and a converter is large, at other bits than those that a machine's numbers are for.
#pragma once

#include <string_view>

#include "common/hardware.h"
#include "common/layer_machine.h"

namespace cimq::compiler {

/// The machine whose energies are those of a layer: layer_hardware with the energy of its conversions, by the ratio of
/// two entries of the table in converter_scaling.cpp.
/// Throws Error as layer_hardware, and where the machine gives the energy of a conversion and the layer chooses other
/// bits, if one of both is not in the table (4 to 10).
Hardware energy_hardware(const Hardware& hardware, const LayerMachine& machine, std::string_view layer);

/// The machine that is large enough for a layer: its converters have the layer's bits where those are more (a converter
/// that stops early is no smaller). Throws Error as energy_hardware, of the area of a converter.
Hardware area_hardware(const Hardware& hardware, const LayerMachine& machine, std::string_view layer);

}  // namespace cimq::compiler
