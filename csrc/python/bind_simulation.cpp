// cimq._C.simulate_program: the time of a program and what it is spent on; machine_area and machine_power: what the
// machine itself takes.
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "compiler/cost/area.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/sim/simulate.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;

std::pair<std::int64_t, std::int64_t> pair_of(const compiler::ResourceUse& use) { return {use.busy_ps, use.parts}; }

py::dict layer_dict(const compiler::SimulatedLayer& layer, const Hardware& hardware) {
  py::dict result;
  result["name"] = layer.name;
  result["begin_ps"] = layer.begin_ps;
  result["end_ps"] = layer.end_ps;
  result["writes"] = layer.writes;
  result["mvms"] = layer.mvms;
  result["write_ps"] = layer.write_ps;
  result["mvm_ps"] = layer.mvm_ps;
  result["adc_ps"] = layer.adc_ps;
  result["critical_ps"] = layer.critical.ps;
  if (compiler::describes_energy(hardware)) {
    result["energy_fj"] = compiler::energy_of(hardware, layer.events, "layer '" + layer.name + "'").part_fj;
  }
  return result;
}

py::dict simulate_program(const std::string& text, const std::string& layers_json, bool with_trace) {
  compiler::SimulatedTime time;
  compiler::Program program;
  std::string trace;
  {
    const py::gil_scoped_release unlocked;
    program = compiler::read_program(text);
    const compiler::Graph graph = compiler::read_layers(layers_json);
    time = with_trace ? compiler::simulate(program, graph, trace) : compiler::simulate(program, graph);
  }
  py::list layers;
  for (const compiler::SimulatedLayer& layer : time.layers) layers.append(layer_dict(layer, program.hardware));
  py::dict uses;
  uses["crossbars"] = pair_of(time.crossbars);
  uses["write_ports"] = pair_of(time.write_ports);
  uses["bus_in"] = pair_of(time.bus_in);
  uses["bus_out"] = pair_of(time.bus_out);
  uses["vector_unit"] = pair_of(time.vector_unit);
  py::dict result;
  result["time_ps"] = time.time_ps;
  result["critical_ps"] = time.causes.ps;
  result["between_layers_ps"] = time.between_layers.ps;
  result["uses"] = uses;
  result["buffer_bytes"] = time.buffer_bytes;
  result["layers"] = layers;
  result["trace"] = py::str(trace);
  return result;
}

}  // namespace

void bind_simulation(py::module_& m) {
  m.def("simulate_program", &simulate_program, py::arg("program"), py::arg("layers_json"), py::arg("trace") = false,
        "Time of one sample of a verified program.jsonl of this network, event by event, in picoseconds; energies of "
        "what it does in femtojoules, where the machine describes any; with `trace` also a Chrome trace.");
  m.def(
      "machine_area",
      [](const std::string& hardware, std::int64_t crossbars) {
        return compiler::area(Hardware::from_json(hardware), crossbars).part_um2;
      },
      py::arg("hardware"), py::arg("crossbars"),
      "Square micrometres of a machine with so many crossbars, in the order of AREA_PARTS; None: not described.");
  m.def(
      "machine_power",
      [](const std::string& hardware, std::int64_t crossbars) {
        return compiler::busy_power(Hardware::from_json(hardware), crossbars).part_mw;
      },
      py::arg("hardware"), py::arg("crossbars"),
      "Milliwatts while so many crossbars multiply without a pause, in the order of POWER_PARTS; None: not described.");
  m.attr("CAUSES") = compiler::kCauseNames;
  m.attr("AREA_PARTS") = compiler::kAreaPartNames;
  m.attr("POWER_PARTS") = compiler::kPowerPartNames;
}

}  // namespace cimq::python
