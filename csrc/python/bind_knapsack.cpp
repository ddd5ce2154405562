#include <pybind11/stl.h>

#include <utility>

#include "agent/knapsack.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;
using agent::KnapsackFront;

constexpr const char* kDoc = R"(One option per slot, so that no other choice has both less cost and less damage.

Slots are added one after the other and dominated sums dropped (Nemhauser and Ullmann 1969).

Args:
    slots: For each slot a list of (cost, damage); costs are integers from 0 on.
    states: Sums that are kept between slots. Where there are more, a cost of the front exceeds the best possible one of
        no more damage by at most `slots / (states - 2)` of the range of costs, and `exact` is False.

Raises:
    ValueError: For no slots, a slot without an option, numbers out of range, or `states` below 3.

Example:
    >>> front = KnapsackFront([[(4, 0.0), (2, 1.0)], [(8, 0.0), (4, 0.5)]])
    >>> front.costs, front.damages
    ([6, 8, 12], [1.5, 0.5, 0.0])
    >>> front.choices(1)
    [0, 1]
)";

}  // namespace

void bind_knapsack(py::module_& m) {
  py::class_<KnapsackFront>(m, "KnapsackFront", kDoc)
      .def(py::init([](const std::vector<std::vector<std::pair<std::int64_t, double>>>& slots, std::int64_t states) {
             agent::KnapsackSlots options(slots.size());
             for (std::size_t s = 0; s < slots.size(); ++s) {
               for (const auto& [cost, damage] : slots[s]) options[s].push_back({cost, damage});
             }
             return KnapsackFront(options, states);
           }),
           py::arg("slots"), py::arg("states") = std::int64_t{1} << 14, py::call_guard<py::gil_scoped_release>())
      .def("__len__", &KnapsackFront::size)
      .def_property_readonly("costs", &KnapsackFront::costs, "Costs of the points, ascending.")
      .def_property_readonly("damages", &KnapsackFront::damages, "Their damages, descending.")
      .def_property_readonly("exact", &KnapsackFront::exact, "Whether no sum was left out.")
      .def("choices", &KnapsackFront::choices, py::arg("point"), "Index of the option of every slot in a point.");
}

}  // namespace cimq::python
