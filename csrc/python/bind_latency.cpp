#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "common/hardware.h"
#include "common/layer_machine.h"
#include "compiler/cost/converter_scaling.h"
#include "compiler/cost/energy.h"
#include "compiler/cost/tier1.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

// name, outputs, inputs, invocations, repeats
using ShapeTuple = std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

compiler::LayerShape shape_of(const ShapeTuple& tuple) {
  const auto& [name, outputs, inputs, invocations, repeats] = tuple;
  return {name, outputs, inputs, invocations, repeats};
}

/// What layer `index` chooses; layers beyond the list are as the machine.
LayerMachine machine_at(const std::vector<MachineTuple>& machines, std::size_t index) {
  return index < machines.size() ? machine_of(machines[index]) : LayerMachine{};
}

}  // namespace

void bind_latency(pybind11::module_& m) {
  m.def(
      "tier1_layers",
      [](const std::string& hardware, const std::vector<ShapeTuple>& shapes,
         const std::vector<std::pair<int, int>>& bits, const std::vector<MachineTuple>& machines) {
        const Hardware network = Hardware::from_json(hardware);
        std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>> costs;
        std::int64_t total = 0;
        for (std::size_t i = 0; i < shapes.size(); ++i) {
          const compiler::LayerShape shape = shape_of(shapes[i]);
          const Hardware hw = layer_hardware(network, machine_at(machines, i), shape.name);
          const auto cost = compiler::tier1(hw, shape, bits.at(i).first, bits.at(i).second);
          total = compiler::checked_sum(total, cost.time_ps(), "the time of the network in picoseconds");
          costs.emplace_back(cost.tiles, cost.writes, cost.mvms, cost.write_time_ps, cost.mvm_time_ps);
        }
        return costs;
      },
      pybind11::arg("hardware"), pybind11::arg("shapes"), pybind11::arg("bits"),
      pybind11::arg("machines") = std::vector<MachineTuple>{},
      "(tiles, writes, mvms, write_time_ps, mvm_time_ps) of every layer; `machines` is what layers choose, (ADC bits, "
      "mapping).");
  m.def(
      "tier1_table",
      [](const std::string& hardware, const ShapeTuple& shape, const std::vector<int>& bits) {
        return compiler::tier1_table(Hardware::from_json(hardware), shape_of(shape), bits);
      },
      pybind11::arg("hardware"), pybind11::arg("shape"), pybind11::arg("bits"),
      "Picoseconds of one layer for every pair of bit widths, activations fastest.");
  m.def(
      "energy_layers",
      [](const std::string& hardware, const std::vector<ShapeTuple>& shapes,
         const std::vector<std::pair<int, int>>& bits, const std::vector<MachineTuple>& machines) {
        const Hardware network = Hardware::from_json(hardware);
        std::vector<std::array<std::int64_t, compiler::kEnergyParts>> costs;
        std::int64_t total = 0;
        for (std::size_t i = 0; i < shapes.size(); ++i) {
          const compiler::LayerShape shape = shape_of(shapes[i]);
          const Hardware hw = compiler::energy_hardware(network, machine_at(machines, i), shape.name);
          const auto cost = compiler::energy(hw, shape, bits.at(i).first, bits.at(i).second);
          total = compiler::checked_sum(total, cost.total_fj(), "the energy of the network in femtojoules");
          costs.push_back(cost.part_fj);
        }
        return costs;
      },
      pybind11::arg("hardware"), pybind11::arg("shapes"), pybind11::arg("bits"),
      pybind11::arg("machines") = std::vector<MachineTuple>{},
      "Femtojoules of every layer by component, in the order of ENERGY_PARTS; `machines` as in tier1_layers.");
  m.def(
      "energy_hardware",
      [](const std::string& hardware, const MachineTuple& machine, const std::string& layer) {
        return compiler::energy_hardware(Hardware::from_json(hardware), machine_of(machine), layer).to_json();
      },
      pybind11::arg("hardware"), pybind11::arg("machine"), pybind11::arg("layer"),
      "layer_hardware with the energy of the layer's conversions.");
  m.def(
      "energy_table",
      [](const std::string& hardware, const ShapeTuple& shape, const std::vector<int>& bits) {
        return compiler::energy_table(Hardware::from_json(hardware), shape_of(shape), bits);
      },
      pybind11::arg("hardware"), pybind11::arg("shape"), pybind11::arg("bits"),
      "Femtojoules of one layer for every pair of bit widths, activations fastest.");
  m.attr("ENERGY_PARTS") = compiler::kEnergyPartNames;
}

}  // namespace cimq::python
