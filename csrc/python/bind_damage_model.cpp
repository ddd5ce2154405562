#include <pybind11/stl.h>

#include <optional>
#include <utility>

#include "agent/damage_model.h"
#include "common/error.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;
using agent::DamageModel;

constexpr const char* kDoc = R"(What fewer bits cost, learned from whole policies: a Bayesian linear model.

A policy is a set of features with values; its damage is the sum of value times coefficient. Each coefficient has a
Gaussian prior (say, a measured sensitivity and how far it may be off); measured policies give the exact posterior
(Rasmussen and Williams 2006, section 2.1), draws of it follow Matheron's rule (Wilson et al. 2020, arXiv 2002.09309).
The evidence tells how large the deviations of a group of features should be.

Args:
    mean: Of every coefficient.
    deviation: Standard deviations of the same; 0 is certain.
    group: Number of every feature's group, from 0 on; None: all are in one.

Raises:
    ValueError: For no features, lengths that differ, numbers that are not finite, or a negative deviation.

Example:
    >>> model = DamageModel([1.0, 1.0], [0.5, 0.0])
    >>> model.observe([0, 1], [1.0, 1.0], 2.5, 0.5)
    >>> model.mean()
    [1.25, 1.0]
)";

void observe(DamageModel& model, const std::vector<std::int64_t>& features, const std::vector<double>& values,
             double damage, double deviation) {
  check(features.size() == values.size(), "DamageModel: there must be one value for each feature, got ", values.size(),
        " for ", features.size());
  agent::Features row;
  row.reserve(features.size());
  for (std::size_t i = 0; i < features.size(); ++i) row.push_back({features[i], values[i]});
  model.observe(row, damage, deviation);
}

}  // namespace

void bind_damage_model(py::module_& m) {
  py::class_<DamageModel>(m, "DamageModel", kDoc)
      .def(py::init([](std::vector<double> mean, std::vector<double> deviation,
                       std::optional<std::vector<std::int64_t>> group) {
             return DamageModel(std::move(mean), std::move(deviation),
                                std::move(group).value_or(std::vector<std::int64_t>{}));
           }),
           py::arg("mean"), py::arg("deviation"), py::arg("group") = py::none())
      .def("observe", &observe, py::arg("features"), py::arg("values"), py::arg("damage"), py::arg("deviation"),
           "Takes in one measured policy: its features, its damage, the standard deviation of that measurement.\n\n"
           "Raises:\n    ValueError: For features that are unknown or named twice, a number that is not finite, or a\n"
           "        deviation of 0; nothing is changed then.")
      .def("mean", &DamageModel::mean, "Posterior mean of every coefficient.")
      .def("draw", &DamageModel::draw, py::arg("seed"), py::arg("number"), py::arg("temperature"),
           "A draw of all coefficients; its deviations are `temperature` times those of the posterior, 0 is the mean.")
      .def("log_evidence", &DamageModel::log_evidence, py::arg("scales"),
           "Logarithm of the density of what was observed, were the deviations of the groups multiplied so.",
           py::call_guard<py::gil_scoped_release>())
      .def_property("scales", &DamageModel::scales, &DamageModel::set_scales,
                    "What the deviations of every group are multiplied with; 1 at first.")
      .def_property_readonly("features", &DamageModel::features, "Number of features.")
      .def_property_readonly("observations", &DamageModel::observations, "Policies observed so far.");
}

}  // namespace cimq::python
