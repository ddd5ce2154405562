#include "compiler/frontends/layer_machine_json.h"

#include <string>

#include "common/error.h"

namespace cimq::compiler {

LayerMachine read_machine(ObjectReader& reader) {
  LayerMachine machine;
  if (reader.has("adc_bits")) {
    machine.adc_bits = static_cast<int>(reader.integer("adc_bits", 1, kMaxLayerAdcBits));
  }
  if (reader.has("mapping")) {
    const std::string name = reader.text("mapping");
    machine.mapping = mapping_named(name);
    check(machine.mapping.has_value(), reader.where(), ": there is no mapping '", shown(name), "'");
  }
  return machine;
}

}  // namespace cimq::compiler
