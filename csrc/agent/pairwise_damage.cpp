#include "agent/pairwise_damage.h"

#include <cmath>
#include <limits>
#include <utility>

#include "common/error.h"

namespace cimq::agent {
namespace {

/// One slot's part of a move.
struct Step {
  std::size_t slot = 0;
  std::int64_t option = 0;
  std::int64_t cost = 0;  ///< changes
  double damage = 0;
  double root = 0;
};

/// What a move does.
struct Change {
  std::int64_t cost = 0;
  double damage = 0;
};

/// Whether a move is better than another: cheaper, at equal cost less damaging. Within the limit alone.
bool better(const Change& a, const Change& b) { return a.cost != b.cost ? a.cost < b.cost : a.damage < b.damage; }

}  // namespace

PairwiseDamage::PairwiseDamage(std::vector<std::vector<PairwiseOption>> slots, const std::vector<SlotPair>& pairs)
    : slots_(std::move(slots)), strength_(slots_.size() * slots_.size(), 0.0) {
  check(!slots_.empty(), "PairwiseDamage: there must be at least one slot");
  std::int64_t largest = 0;
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    check(!slots_[s].empty(), "PairwiseDamage: slot ", s, " has no option");
    std::int64_t most = 0;
    for (const PairwiseOption& option : slots_[s]) {
      check(option.cost >= 0, "PairwiseDamage: costs must not be negative, slot ", s, " has ", option.cost);
      check(std::isfinite(option.own) && std::isfinite(option.root),
            "PairwiseDamage: damages and roots must be finite, slot ", s, " has ", option.own, " and ", option.root);
      most = option.cost > most ? option.cost : most;
    }
    check(most <= std::numeric_limits<std::int64_t>::max() - largest, "PairwiseDamage: the costs exceed 63 bits");
    largest += most;
  }
  const auto count = static_cast<std::int64_t>(slots_.size());
  for (const SlotPair& pair : pairs) {
    check(pair.first >= 0 && pair.first < count && pair.second >= 0 && pair.second < count && pair.first != pair.second,
          "PairwiseDamage: a pair must be two of the slots 0..", count - 1, ", got ", pair.first, " and ", pair.second);
    check(std::isfinite(pair.strength), "PairwiseDamage: strengths must be finite, got ", pair.strength);
    strength_[static_cast<std::size_t>(pair.first * count + pair.second)] += pair.strength;
    strength_[static_cast<std::size_t>(pair.second * count + pair.first)] += pair.strength;
  }
}

void PairwiseDamage::check_choices(const std::vector<std::int64_t>& choices) const {
  check(choices.size() == slots_.size(), "PairwiseDamage: there must be one choice for each of the ", slots_.size(),
        " slots, got ", choices.size());
  for (std::size_t s = 0; s < slots_.size(); ++s)
    check(choices[s] >= 0 && choices[s] < static_cast<std::int64_t>(slots_[s].size()), "PairwiseDamage: slot ", s,
          " has the options 0..", slots_[s].size() - 1, ", got ", choices[s]);
}

std::int64_t PairwiseDamage::cost(const std::vector<std::int64_t>& choices) const {
  check_choices(choices);
  std::int64_t sum = 0;
  for (std::size_t s = 0; s < slots_.size(); ++s) sum += at(s, choices[s]).cost;
  return sum;
}

std::vector<double> PairwiseDamage::fields(const std::vector<std::int64_t>& choices) const {
  const std::size_t count = slots_.size();
  std::vector<double> found(count, 0.0);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j < count; ++j) found[i] += strength_[i * count + j] * at(j, choices[j]).root;
  return found;
}

double PairwiseDamage::damage(const std::vector<std::int64_t>& choices) const {
  check_choices(choices);
  const std::vector<double> field = fields(choices);
  double sum = 0;
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    const PairwiseOption& chosen = at(s, choices[s]);
    sum += chosen.own + 0.5 * chosen.root * field[s];  // every pair is met twice
  }
  return sum;
}

std::vector<std::vector<double>> PairwiseDamage::around(const std::vector<std::int64_t>& choices) const {
  check_choices(choices);
  const std::vector<double> field = fields(choices);
  std::vector<std::vector<double>> table(slots_.size());
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    const double counted = 0.5 * at(s, choices[s]).root * field[s];
    for (const PairwiseOption& option : slots_[s]) table[s].push_back(option.own + option.root * field[s] - counted);
  }
  return table;
}

std::vector<std::int64_t> PairwiseDamage::polished(std::vector<std::int64_t> choices, double limit) const {
  double damage = this->damage(choices);
  const std::size_t count = slots_.size();
  std::vector<double> field = fields(choices);
  // Rounding must not let two moves undo each other for ever.
  const double least = 1e-12 * (std::abs(damage) + std::abs(limit));
  while (true) {
    std::vector<Step> steps;
    std::vector<std::size_t> first;  // of every slot
    for (std::size_t s = 0; s < count; ++s) {
      first.push_back(steps.size());
      const PairwiseOption& chosen = at(s, choices[s]);
      for (std::size_t k = 0; k < slots_[s].size(); ++k) {
        if (static_cast<std::int64_t>(k) == choices[s]) continue;
        const PairwiseOption& option = slots_[s][k];
        const double root = option.root - chosen.root;
        steps.push_back({s, static_cast<std::int64_t>(k), option.cost - chosen.cost,
                         option.own - chosen.own + root * field[s], root});
      }
    }
    first.push_back(steps.size());

    Change best;
    const Step* one = nullptr;
    const Step* two = nullptr;
    const bool beyond = damage > limit;
    const auto consider = [&](const Change& change, const Step& a, const Step* b) {
      // Where the damage is beyond the limit it must fall, the most first; else the cost.
      if (beyond) {
        if (change.damage >= -least || (one != nullptr && change.damage >= best.damage)) return;
      } else {
        if (damage + change.damage > limit) return;
        if (change.cost > 0 || (change.cost == 0 && change.damage >= -least)) return;
        if (one != nullptr && !better(change, best)) return;
      }
      best = change;
      one = &a;
      two = b;
    };
    for (const Step& a : steps) {
      consider({a.cost, a.damage}, a, nullptr);
      if (beyond) continue;  // one slot at a time leads back
      for (std::size_t j = first[a.slot + 1]; j < steps.size(); ++j) {
        const Step& b = steps[j];
        const double meeting = strength_[a.slot * count + b.slot] * a.root * b.root;
        consider({a.cost + b.cost, a.damage + b.damage + meeting}, a, &b);
      }
    }
    if (one == nullptr) return choices;
    for (const Step* step : {one, two}) {
      if (step != nullptr) choices[step->slot] = step->option;
    }
    damage += best.damage;
    field = fields(choices);
  }
}

}  // namespace cimq::agent
