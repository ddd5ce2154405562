// cimq._C.PipelineCost: what policies of one network cost as programs.
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "compiler/feedback/pipeline_cost.h"
#include "compiler/frontends/layers_json.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;

constexpr const char* kDoc = R"(Time and energy of the programs of one network under any bits.

Args:
    layers_json: The text of a layers.json; its bits do not matter.
    hardware_json: The machine.
    pipeline: "stationary" or "pipelined".
    duplication: The rule by which copies are chosen; "any" for "pipelined" only.

Raises:
    ValueError: For another pipeline or rule, or a network that cannot be read.

Example:
    >>> cost = PipelineCost(layers, hardware, "pipelined", "any")  # doctest: +SKIP
    >>> cost.cost([(8, 8), (4, 4)])  # doctest: +SKIP
    (224000, None, 'layers in series; copies: none')
)";

class PythonPipelineCost {
 public:
  PythonPipelineCost(const std::string& layers_json, const std::string& hardware_json, const std::string& pipeline,
                     const std::string& duplication)
      : hardware_(Hardware::from_json(hardware_json)),
        cost_(compiler::read_layers(layers_json), hardware_, pipeline, compiler::copy_rule_named(duplication)) {}

  using Result = std::tuple<std::int64_t, std::optional<std::int64_t>, std::string>;

  std::vector<std::string> layers() const { return cost_.layer_names(); }
  bool fast() const { return cost_.fast(); }
  Result cost(const std::vector<compiler::LayerWidths>& bits) { return result(cost_.cost(bits)); }
  Result simulated(const std::vector<compiler::LayerWidths>& bits) const { return result(cost_.simulated(bits)); }
  auto kinds(std::size_t layer, bool with_energy) const { return cost_.kinds(layer, with_energy); }

 private:
  Result result(const compiler::ProgramCost& cost) const {
    std::optional<std::int64_t> energy_fj;
    if (compiler::describes_energy(hardware_)) {
      energy_fj = compiler::energy_of(hardware_, cost.events, "the network").total_fj();
    }
    return {cost.time_ps, energy_fj, cost.chosen};
  }

  Hardware hardware_;
  compiler::PipelineCost cost_;
};

}  // namespace

void bind_pipeline_cost(py::module_& m) {
  using Bound = PythonPipelineCost;
  py::class_<Bound>(m, "PipelineCost", kDoc)
      .def(py::init<const std::string&, const std::string&, const std::string&, const std::string&>(),
           py::arg("layers_json"), py::arg("hardware_json"), py::arg("pipeline"), py::arg("duplication"))
      .def_property_readonly("layers", &Bound::layers, "Crossbar layers in order of execution.")
      .def_property_readonly("fast", &Bound::fast,
                             "Whether costs are had without compiling: machines of which only writes, MVMs and "
                             "converters take time.")
      .def("cost", &Bound::cost, py::arg("bits"),
           "(picoseconds, femtojoules or None where the machine describes none, what the pipeline 'pipelined' takes) "
           "for one (weight bits, activation bits) per layer, in the order of `layers`.")
      .def("simulated", &Bound::simulated, py::arg("bits"), "The same by compiling and simulating.")
      .def("kinds", &Bound::kinds, py::arg("layer"), py::arg("with_energy"),
           "[weight bits - 1][activation bits - 1]: bits of a layer with the same number take the same time (and "
           "energy) in every policy.");
}

}  // namespace cimq::python
