#include <pybind11/stl.h>

#include "agent/damage_model.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;
using agent::DamageModel;

constexpr const char* kDoc = R"(What fewer bits cost, learned from whole policies: a Bayesian linear model.

A policy is a set of features; its damage is the sum of theirs. Each has a Gaussian prior (say, a measured sensitivity
and how far it may be off); measured policies give the exact posterior (Rasmussen and Williams 2006, section 2.1), draws
of it follow Matheron's rule (Wilson et al. 2020, arXiv 2002.09309). The numbers are the same on every machine.

Args:
    mean: Of every feature's damage.
    deviation: Standard deviations of the same; 0 is certain.

Raises:
    ValueError: For no features, lengths that differ, numbers that are not finite, or a negative deviation.

Example:
    >>> model = DamageModel([1.0, 1.0], [0.5, 0.0])
    >>> model.observe([0, 1], 2.5, 0.5)
    >>> model.mean()
    [1.25, 1.0]
)";

}  // namespace

void bind_damage_model(py::module_& m) {
  py::class_<DamageModel>(m, "DamageModel", kDoc)
      .def(py::init<std::vector<double>, std::vector<double>>(), py::arg("mean"), py::arg("deviation"))
      .def("observe", &DamageModel::observe, py::arg("features"), py::arg("damage"), py::arg("deviation"),
           "Takes in one measured policy: its features, its damage, the standard deviation of that measurement.\n\n"
           "Raises:\n    ValueError: For features that are unknown or named twice, a number that is not finite, or a\n"
           "        deviation of 0; nothing is changed then.")
      .def("mean", &DamageModel::mean, "Posterior mean of every feature's damage.")
      .def("draw", &DamageModel::draw, py::arg("seed"), py::arg("number"), py::arg("temperature"),
           "A draw of all features; its deviations are `temperature` times those of the posterior, 0 is the mean.")
      .def_property_readonly("features", &DamageModel::features, "Number of features.")
      .def_property_readonly("observations", &DamageModel::observations, "Policies observed so far.");
}

}  // namespace cimq::python
