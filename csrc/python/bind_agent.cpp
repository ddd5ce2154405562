#include <pybind11/stl.h>

#include <optional>

#include "agent/reinforce.h"
#include "common/error.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;
using agent::Reinforce;
using agent::ReinforceOptions;
using agent::ReinforceState;

py::dict plain_state(const Reinforce& self) {
  const ReinforceState state = self.state();
  py::dict plain;
  plain["episode"] = state.episode;
  plain["updates"] = state.updates;
  plain["exploration"] = state.exploration;
  plain["logits"] = state.logits;
  plain["first_moment"] = state.first_moment;
  plain["second_moment"] = state.second_moment;
  return plain;
}

template <typename T>
T entry(const py::dict& plain, const char* key) {
  check(plain.contains(key), "Reinforce: the state lacks the key '", key, "'");
  try {
    return plain[key].cast<T>();
  } catch (const py::cast_error&) {
    throw Error(message("Reinforce: state['", key, "'] has the wrong type"));
  }
}

void load_plain_state(Reinforce& self, const py::dict& plain) {
  using agent::HeadTable;
  self.load_state({entry<std::int64_t>(plain, "episode"), entry<std::int64_t>(plain, "updates"),
                   entry<double>(plain, "exploration"), entry<HeadTable>(plain, "logits"),
                   entry<HeadTable>(plain, "first_moment"), entry<HeadTable>(plain, "second_moment")});
}

py::dict plain_report(const agent::UpdateReport& report) {
  py::dict plain;
  plain["mean_reward"] = report.mean_reward;
  plain["entropy"] = report.entropy;
  plain["entropy_weight"] = report.entropy_weight;
  plain["gradient_norm"] = report.gradient_norm;
  return plain;
}

constexpr const char* kClassDoc = R"(REINFORCE over a masked, factored categorical policy.

A policy is a row of independent heads, each of which picks one of its choices (Williams 1992, doi 10.1007/BF00992696);
the baseline of an episode is the mean reward of the others in its batch (Kool et al. 2019). Sampling is counter-based:
head h of episode e depends on (seed, e, h) and the present probabilities alone.

Args:
    masks: For each head a list of booleans, True where the choice is allowed. Heads may differ in length.
    seed: 0 to 2^64 - 1.
    learning_rate: Of Adam.
    entropy_start: Weight of the entropy bonus (summed over heads) at the first update.
    entropy_end: Its weight from update `entropy_updates` on; geometric in between.
    entropy_updates: Length of that schedule in updates.
    advantage_clip: Advantages, in units of the batch's standard deviation, are cut to +- this.
    beta1: Of Adam.
    beta2: Of Adam.
    logits: Warm start, shaped as `masks`; None is uniform over the allowed choices.

Raises:
    ValueError: For no heads, a head that allows nothing, sizes that differ, or options out of range.

Example:
    >>> agent = Reinforce([[True, True, True]], seed=1)
    >>> for _ in range(60):
    ...     batch = agent.sample(8)
    ...     _ = agent.update(batch, [float(a[0] == 2) for a in batch])
    >>> agent.greedy()
    [2]
)";

}  // namespace

void bind_agent(py::module_& m) {
  const ReinforceOptions defaults;
  py::class_<Reinforce>(m, "Reinforce", kClassDoc)
      .def(py::init([](const agent::Masks& masks, std::uint64_t seed, double learning_rate, double entropy_start,
                       double entropy_end, std::int64_t entropy_updates, double advantage_clip, double beta1,
                       double beta2, const std::optional<agent::HeadTable>& logits) {
             const ReinforceOptions options{seed,          learning_rate, beta1,           beta2,
                                            entropy_start, entropy_end,   entropy_updates, advantage_clip};
             return Reinforce(masks, options, logits.value_or(agent::HeadTable{}));
           }),
           py::arg("masks"), py::kw_only(), py::arg("seed") = defaults.seed,
           py::arg("learning_rate") = defaults.learning_rate, py::arg("entropy_start") = defaults.entropy_start,
           py::arg("entropy_end") = defaults.entropy_end, py::arg("entropy_updates") = defaults.entropy_updates,
           py::arg("advantage_clip") = defaults.advantage_clip, py::arg("beta1") = defaults.beta1,
           py::arg("beta2") = defaults.beta2, py::arg("logits") = py::none())
      .def("sample", &Reinforce::sample, py::arg("count"),
           "Draws the next `count` episodes: for each a list with one choice index per head.")
      .def("sample_episode", &Reinforce::sample_episode, py::arg("episode"),
           "The actions of one episode under the present probabilities; advances nothing.")
      .def(
          "update",
          [](Reinforce& self, const std::vector<agent::Actions>& actions, const std::vector<double>& rewards) {
            agent::UpdateReport report;
            {
              const py::gil_scoped_release released;  // LibTorch's backward pass insists on it
              report = self.update(actions, rewards);
            }
            return plain_report(report);
          },
          py::arg("actions"), py::arg("rewards"),
          "One Adam step from at least two episodes; returns mean_reward, entropy, entropy_weight, gradient_norm.\n\n"
          "Raises:\n    ValueError: For wrong sizes, masked or unknown choices, or a reward that is not finite;\n"
          "        nothing is changed then.")
      .def("gradient", &Reinforce::gradient, py::arg("actions"), py::arg("rewards"),
           py::call_guard<py::gil_scoped_release>(),
           "Gradient of the loss of `update` with respect to the logits, [head][choice].")
      .def("probabilities", &Reinforce::probabilities, "Probability of every choice, [head][choice]; 0 where masked.")
      .def("greedy", &Reinforce::greedy, "The most probable choice of every head, the first of equals.")
      .def("state", &plain_state,
           "Everything that later behaviour depends on besides masks and options, as plain values; exact through JSON.")
      .def("load_state", &load_plain_state, py::arg("state"),
           "Continues exactly where `state` was taken.\n\nRaises:\n    ValueError: If it does not fit the masks.")
      .def_property("exploration", &Reinforce::exploration, &Reinforce::set_exploration,
                    "Share of uniform choice mixed into every head, 0 to 1.")
      .def_property_readonly("heads", &Reinforce::heads, "Number of heads.")
      .def_property_readonly("episode", &Reinforce::episode, "Number of the next episode.")
      .def_property_readonly("updates", &Reinforce::updates, "Updates made so far.");
  m.def("leave_one_out_advantages", &agent::leave_one_out_advantages, py::arg("rewards"), py::arg("clip"),
        "(r_i - mean of the other rewards) / standard deviation of the rewards, clipped; 0 if all are equal.");
}

}  // namespace cimq::python
