#include "common/layer_machine.h"

#include "common/error.h"
#include "common/printable.h"

namespace cimq {

std::string text_of(const LayerMachine& machine) {
  std::string text = machine.adc_bits ? message(*machine.adc_bits, "-bit converters") : "";
  if (machine.adc_bits && machine.mapping) text += ", ";
  return machine.mapping ? text.append(name_of(*machine.mapping)) : text;
}

std::optional<Mapping> mapping_named(std::string_view name) {
  for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kDifferentialRow, Mapping::kOffset}) {
    if (name_of(mapping) == name) return mapping;
  }
  return std::nullopt;
}

Hardware layer_hardware(const Hardware& hardware, const LayerMachine& machine, std::string_view layer) {
  Hardware own = hardware;
  if (machine.is_as_the_machine()) return own;
  const std::string where = layer.empty() ? "a layer" : message("layer '", printable(layer), "'");
  if (machine.adc_bits) {
    check(hardware.adc.bits.has_value(), "policy: ", where, " has adc_bits ", *machine.adc_bits,
          ", but the converters of hardware '", hardware.name,
          "' are ideal (adc.bits null): give the hardware those that it has");
    own.adc.bits = machine.adc_bits;
    if (own.adc.bits != hardware.adc.bits) own.sources.erase("adc.bits");
  }
  if (machine.mapping) {
    own.mapping = *machine.mapping;
    if (own.mapping != hardware.mapping) own.sources.erase("mapping");
    if (own.mapping == Mapping::kOffset && own.sign_magnitude) {
      own.sign_magnitude = false;
      own.sources.erase("sign_magnitude");
    }
  }
  try {
    own.validate();
  } catch (const Error& error) {
    throw Error(message("policy: ", where, " cannot have ", text_of(machine), " on hardware '", hardware.name,
                        "': ", error.what()));
  }
  return own;
}

}  // namespace cimq
