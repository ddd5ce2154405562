#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "common/error.h"
#include "common/hardware.h"
#include "common/json_fields.h"
#include "common/layer_machine.h"
#include "python/bindings.h"

namespace cimq::python {

LayerMachine machine_of(const MachineTuple& tuple) {
  LayerMachine machine{tuple.first, std::nullopt};
  if (tuple.second) {
    machine.mapping = mapping_named(*tuple.second);
    check(machine.mapping.has_value(), "there is no mapping '", *tuple.second, "'");
  }
  return machine;
}

void bind_hardware(pybind11::module_& m) {
  m.def(
      "canonical_hardware", [](const std::string& json) { return Hardware::from_json(json).to_json(); },
      pybind11::arg("json"), "Checks a hardware description and returns it complete, every key in the schema's order.");
  m.def("nearest_word", &nearest_word, pybind11::arg("word"), pybind11::arg("candidates"),
        "The candidate to suggest for a misspelt word, or an empty text.");
  m.def(
      "hardware_varies", [](const std::string& hardware) { return Hardware::from_json(hardware).varies(); },
      pybind11::arg("hardware"), "Whether two chips, or two accesses of one chip, can differ.");
  m.def(
      "hardware_fractional", [](const std::string& hardware) { return Hardware::from_json(hardware).fractional(); },
      pybind11::arg("hardware"), "Whether conductances are held in 1/256 level.");
  m.def(
      "layer_hardware",
      [](const std::string& hardware, const MachineTuple& machine, const std::string& layer) {
        return layer_hardware(Hardware::from_json(hardware), machine_of(machine), layer).to_json();
      },
      pybind11::arg("hardware"), pybind11::arg("machine"), pybind11::arg("layer"),
      "The machine of a layer that chooses (ADC bits, mapping).");
}

}  // namespace cimq::python
