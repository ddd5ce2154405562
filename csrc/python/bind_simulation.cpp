// cimq._C.simulate_program: the time of a program and what it is spent on; machine_area and machine_power: what the
// machine itself takes.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compiler/cost/area.h"
#include "compiler/cost/converter_scaling.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/sim/simulate.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;

std::pair<std::int64_t, std::int64_t> pair_of(const compiler::ResourceUse& use) { return {use.busy_ps, use.parts}; }

/// `hardware` is the layer's own, with the energy of its conversions.
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
  std::map<std::string, LayerMachine> machines;
  {
    const py::gil_scoped_release unlocked;
    program = compiler::read_program(text);
    const compiler::Graph graph = compiler::read_layers(layers_json);
    for (const compiler::Node& node : graph.nodes) {
      if (node.crossbar) machines.emplace(node.crossbar->layer_name, node.crossbar->machine);
    }
    time = with_trace ? compiler::simulate(program, graph, trace) : compiler::simulate(program, graph);
  }
  py::list layers;
  for (const compiler::SimulatedLayer& layer : time.layers) {
    layers.append(layer_dict(layer, compiler::energy_hardware(program.hardware, machines.at(layer.name), layer.name)));
  }
  py::dict uses;
  uses["crossbars"] = pair_of(time.crossbars);
  uses["write_ports"] = pair_of(time.write_ports);
  uses["bus_in"] = pair_of(time.bus_in);
  uses["bus_out"] = pair_of(time.bus_out);
  uses["vector_unit"] = pair_of(time.vector_unit);
  py::dict result;
  result["time_ps"] = time.time_ps;
  result["batch"] = time.batch;
  result["first_ps"] = time.first_ps;
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
        "Time of one batch of a verified program.jsonl of this network, event by event, in picoseconds; energies of "
        "what it does in femtojoules, where the machine describes any; with `trace` also a Chrome trace.");
  m.def(
      "machine_area",
      [](const std::string& hardware, std::int64_t crossbars, const std::vector<MachineTuple>& machines) {
        const Hardware network = Hardware::from_json(hardware);
        compiler::AreaCost area = compiler::area(network, crossbars);
        for (const MachineTuple& machine : machines) {
          const Hardware needed = compiler::area_hardware(network, machine_of(machine), "");
          const compiler::AreaCost own = compiler::area(needed, crossbars);
          for (std::size_t i = 0; i < own.part_um2.size(); ++i) {
            area.part_um2[i] = std::max(area.part_um2[i], own.part_um2[i]);
          }
        }
        return area.part_um2;
      },
      py::arg("hardware"), py::arg("crossbars"), py::arg("machines") = std::vector<MachineTuple>{},
      "Square micrometres of a machine with so many crossbars, in the order of AREA_PARTS; None: not described. Every "
      "part is as large as the layer needs that takes most of it; `machines` is what layers choose, (ADC bits, "
      "mapping).");
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
