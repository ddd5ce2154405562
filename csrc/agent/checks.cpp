#include "agent/checks.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/error.h"

namespace cimq::agent {
namespace {

// Squares of rewards and sums of logits must stay finite.
constexpr double kLargestValue = 1e100;

bool usable(double value) { return std::abs(value) <= kLargestValue; }  // false for NaN as well

}  // namespace

void check_masks(const Masks& masks) {
  check(!masks.empty(), "Reinforce: there must be at least one head, got none");
  for (std::size_t h = 0; h < masks.size(); ++h)
    check(std::find(masks[h].begin(), masks[h].end(), true) != masks[h].end(), "Reinforce: head ", h,
          " must allow at least one of its ", masks[h].size(), " choices, got a mask that allows none");
}

void check_options(const ReinforceOptions& options) {
  for (const auto& [value, name] :
       {std::pair{options.learning_rate, "learning_rate"}, std::pair{options.advantage_clip, "advantage_clip"}})
    check(usable(value) && value > 0, "Reinforce: ", name, " must be positive and finite, got ", value);
  for (const auto& [beta, name] : {std::pair{options.beta1, "beta1"}, std::pair{options.beta2, "beta2"}})
    check(beta >= 0 && beta < 1, "Reinforce: ", name, " must be in [0, 1), got ", beta);
  for (const auto& [weight, name] :
       {std::pair{options.entropy_start, "entropy_start"}, std::pair{options.entropy_end, "entropy_end"}})
    check(usable(weight) && weight >= 0, "Reinforce: ", name, " must be finite and not negative, got ", weight);
  check(options.entropy_updates >= 1, "Reinforce: entropy_updates must be at least 1, got ", options.entropy_updates);
}

void check_table(const HeadTable& table, const Masks& masks, const std::string& what) {
  check(table.size() == masks.size(), "Reinforce: ", what, " must have ", masks.size(), " heads, got ", table.size());
  for (std::size_t h = 0; h < table.size(); ++h) {
    check(table[h].size() == masks[h].size(), "Reinforce: ", what, " must have ", masks[h].size(), " values for head ",
          h, ", got ", table[h].size());
    for (const double value : table[h])
      check(usable(value), "Reinforce: ", what, " must be finite, got ", value, " in head ", h);
  }
}

void check_batch(const std::vector<Actions>& actions, const std::vector<double>& rewards, const Masks& masks) {
  check(actions.size() == rewards.size(), "Reinforce: there must be one reward per episode, got ", rewards.size(),
        " rewards for ", actions.size(), " episodes");
  check(actions.size() >= 2, "Reinforce: the leave-one-out baseline needs at least 2 episodes, got ", actions.size());
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    check(usable(rewards[i]), "Reinforce: reward ", i, " must be finite (and at most ", kLargestValue, "), got ",
          rewards[i]);
    check(actions[i].size() == masks.size(), "Reinforce: episode ", i, " must have one action for each of the ",
          masks.size(), " heads, got ", actions[i].size());
    for (std::size_t h = 0; h < masks.size(); ++h) {
      const std::int64_t choice = actions[i][h];
      check(choice >= 0 && choice < static_cast<std::int64_t>(masks[h].size()), "Reinforce: episode ", i, ", head ", h,
            ": the action must be from 0 to ", masks[h].size() - 1, ", got ", choice);
      check(masks[h][static_cast<std::size_t>(choice)], "Reinforce: episode ", i, ", head ", h, ": action ", choice,
            " is masked");
    }
  }
}

void check_state(const ReinforceState& state, const Masks& masks) {
  check(state.episode >= 0, "Reinforce: state.episode must not be negative, got ", state.episode);
  check(state.updates >= 0, "Reinforce: state.updates must not be negative, got ", state.updates);
  check(state.exploration >= 0 && state.exploration <= 1, "Reinforce: state.exploration must be from 0 to 1, got ",
        state.exploration);
  check_table(state.logits, masks, "state.logits");
  check_table(state.first_moment, masks, "state.first_moment");
  check_table(state.second_moment, masks, "state.second_moment");
  for (std::size_t h = 0; h < masks.size(); ++h)
    for (const double value : state.second_moment[h])
      check(value >= 0, "Reinforce: state.second_moment must not be negative, got ", value, " in head ", h);
}

}  // namespace cimq::agent
