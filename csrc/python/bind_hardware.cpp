#include <pybind11/stl.h>

#include "common/hardware.h"
#include "common/json_fields.h"
#include "python/bindings.h"

namespace cimq::python {

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
}

}  // namespace cimq::python
