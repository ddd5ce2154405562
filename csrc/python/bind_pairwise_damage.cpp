#include <pybind11/stl.h>

#include <tuple>
#include <utility>

#include "agent/pairwise_damage.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;
using agent::PairwiseDamage;

constexpr const char* kDoc = R"(Damages of slots and of pairs of slots, and the cheapest choices within a damage.

    D(x) = sum_i own_i(x_i) + sum_(i,j) strength_ij root_i(x_i) root_j(x_j)

Args:
    slots: For each slot a list of (cost, own, root); costs are integers from 0 on.
    pairs: (first slot, second slot, strength); pairs that are not named have none.

Raises:
    ValueError: For no slots, a slot without an option, numbers out of range, or a pair that is no pair of slots.

Example:
    >>> damage = PairwiseDamage([[(4, 0.0, 0.0), (2, 1.0, 1.0)], [(8, 0.0, 0.0), (4, 1.0, 1.0)]], [(0, 1, -0.5)])
    >>> damage.damage([1, 1]), damage.cost([1, 1])
    (1.5, 6)
    >>> damage.polished([0, 0], 1.2), damage.polished([0, 0], 1.5)
    ([0, 1], [1, 1])
)";

}  // namespace

void bind_pairwise_damage(py::module_& m) {
  using Option = std::tuple<std::int64_t, double, double>;
  using Pair = std::tuple<std::int64_t, std::int64_t, double>;
  py::class_<PairwiseDamage>(m, "PairwiseDamage", kDoc)
      .def(py::init([](const std::vector<std::vector<Option>>& slots, const std::vector<Pair>& pairs) {
             std::vector<std::vector<agent::PairwiseOption>> options(slots.size());
             for (std::size_t s = 0; s < slots.size(); ++s)
               for (const auto& [cost, own, root] : slots[s]) options[s].push_back({cost, own, root});
             std::vector<agent::SlotPair> strengths;
             strengths.reserve(pairs.size());
             for (const auto& [first, second, strength] : pairs) strengths.push_back({first, second, strength});
             return PairwiseDamage(std::move(options), strengths);
           }),
           py::arg("slots"), py::arg("pairs"))
      .def("cost", &PairwiseDamage::cost, py::arg("choices"), "Sum of the costs of one option per slot.")
      .def("damage", &PairwiseDamage::damage, py::arg("choices"), "Damage of one option per slot.")
      .def("around", &PairwiseDamage::around, py::arg("choices"),
           "For each slot and option what it contributes if all other slots stay; their sum over `choices` is the\n"
           "damage of `choices`.")
      .def("polished", &PairwiseDamage::polished, py::arg("choices"), py::arg("limit"),
           "Choices from which no change of one or of two slots is cheaper within `limit`.",
           py::call_guard<py::gil_scoped_release>());
}

}  // namespace cimq::python
