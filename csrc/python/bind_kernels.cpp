#include <pybind11/stl.h>

#include "common/hardware.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/plan/mvm_plan.h"
#include "ops/support/exact_products.h"
#include "python/bindings.h"

namespace cimq::python {

void bind_kernels(pybind11::module_& m) {
  m.def(
      "crossbar_gives_integers",
      [](const std::string& hardware_json, int weight_bits, int act_bits, bool act_signed) {
        const Hardware hardware = Hardware::from_json(hardware_json);
        if (hardware.adc.bits &&
            (hardware.adc.range == AdcRange::kCalibrated || hardware.adc.range == AdcRange::kLearned)) {
          return false;
        }
        kernels::MvmOptions options;
        options.weight_bits = weight_bits;
        options.act_bits = act_bits;
        options.act_signed = act_signed;
        return kernels::make_mvm_plan(hardware, 1, 1, options).exact;
      },
      pybind11::arg("hardware"), pybind11::arg("weight_bits"), pybind11::arg("act_bits"), pybind11::arg("act_signed"),
      "Whether a crossbar product of integer tensors is int32 (True) or float32.");
  m.def(
      "largest_conductance",
      [](const std::string& hardware_json, int weight_bits) {
        Hardware hardware = Hardware::from_json(hardware_json);
        hardware.adc = Adc{};
        hardware.cell.read = ReadNoise{};
        kernels::MvmOptions options;
        options.weight_bits = weight_bits;
        return kernels::CellTables::of(hardware)->largest(kernels::make_mvm_plan(hardware, 1, 1, options).max_level);
      },
      pybind11::arg("hardware"), pybind11::arg("weight_bits"),
      "Bound of what a cell that holds a part of such a weight can conduct, in 1/256 level.");
  m.def(
      "hardware_lossless",
      [](const std::string& hardware) { return kernels::always_lossless(Hardware::from_json(hardware)); },
      pybind11::arg("hardware"), "Whether every product on this machine is the digital one.");
  m.def("has_exact_products", &ops::has_exact_products, pybind11::call_guard<pybind11::gil_scoped_release>(),
        "Whether oneDNN convolves bytes exactly in this process: the first call tries.");
}

}  // namespace cimq::python
