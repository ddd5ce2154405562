#include "compiler/plan/choose.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <queue>
#include <tuple>
#include <utility>

#include "common/error.h"
#include "common/printable.h"
#include "common/saturating.h"

namespace cimq::compiler {
namespace {

using Time = std::uint64_t;
using Numbers = std::vector<std::size_t>;

std::int64_t least_of(std::span<const LayerOptions> layers) {
  std::int64_t sum = 0;
  for (const LayerOptions& options : layers) sum += options.front().crossbars;
  return sum;
}

bool any_fits(std::span<const LayerOptions> layers, std::int64_t crossbars) {
  const bool all = std::ranges::none_of(layers, &LayerOptions::empty);
  return all && least_of(layers) <= crossbars;
}

/// The first option of a layer that takes at most `time`; none: its size.
std::size_t first_within(const LayerOptions& options, Time time) {
  const auto slower = [time](const LayerOption& option) { return option.time_ps > time; };
  return static_cast<std::size_t>(std::ranges::partition_point(options, slower) - options.begin());
}

/// A step from one option of a layer to a later one, along the lower hull of its options: what time falls per crossbar
/// does not rise.
struct Step {
  std::int64_t crossbars = 0;
  Time gain = 0;
  std::size_t layer = 0, to = 0;

  double slope() const { return static_cast<double>(gain) / static_cast<double>(crossbars); }
};

std::vector<Step> hull_of(const LayerOptions& options, std::size_t layer) {
  const auto step_between = [&](std::size_t from, std::size_t to) -> Step {
    return {options[to].crossbars - options[from].crossbars, options[from].time_ps - options[to].time_ps, layer, to};
  };
  std::vector<std::size_t> hull = {0};
  for (std::size_t to = 1; to < options.size(); ++to) {
    while (hull.size() > 1 &&
           step_between(hull.back(), to).slope() >= step_between(hull[hull.size() - 2], hull.back()).slope()) {
      hull.pop_back();
    }
    hull.push_back(to);
  }
  std::vector<Step> steps;
  for (std::size_t i = 1; i < hull.size(); ++i) steps.push_back(step_between(hull[i - 1], hull[i]));
  return steps;
}

/// What the layers from one on gain at most over their first options, as if they could take parts of steps.
class Relaxation {
 public:
  explicit Relaxation(std::span<const Step> by_slope, std::size_t first_layer) {
    for (const Step& step : by_slope) {
      if (step.layer < first_layer) continue;
      crossbars_.push_back(crossbars_.back() + step.crossbars);
      gains_.push_back(saturating_sum(gains_.back(), step.gain));
    }
  }

  /// Rounded up.
  Time gain(std::int64_t crossbars) const {
    const auto after = std::ranges::upper_bound(crossbars_, crossbars);
    const auto whole = static_cast<std::size_t>(after - crossbars_.begin()) - 1;
    if (after == crossbars_.end()) return gains_.back();
    const double part =
        static_cast<double>(crossbars - crossbars_[whole]) / static_cast<double>(*after - crossbars_[whole]);
    const Time step = gains_[whole + 1] - gains_[whole];
    const double gain = std::ceil(static_cast<double>(step) * part * (1.0 + 1e-12)) + 1.0;
    return gains_[whole] + std::min(step, static_cast<Time>(gain));
  }

 private:
  std::vector<std::int64_t> crossbars_ = {0};
  std::vector<Time> gains_ = {0};
};

/// The choice for the layers so far.
struct State {
  std::int64_t crossbars = 0;
  Time time = 0;
  std::size_t before = 0;  // its state one layer earlier
  std::size_t option = 0;
};

class LatencySearch {
 public:
  LatencySearch(std::span<const LayerOptions> layers, std::int64_t crossbars) : layers_(layers), crossbars_(crossbars) {
    std::vector<Step> steps;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::vector<Step> own = hull_of(layers[i], i);
      steps.insert(steps.end(), own.begin(), own.end());
    }
    std::ranges::sort(steps, {}, [](const Step& step) { return std::tuple(-step.slope(), step.layer, step.to); });
    start(steps);
    for (std::size_t i = 0; i <= layers.size(); ++i) rest_.emplace_back(steps, i);
    least_.resize(layers.size() + 1);
    slowest_.resize(layers.size() + 1);
    for (std::size_t i = layers.size(); i > 0; --i) {
      least_[i - 1] = least_[i] + layers[i - 1].front().crossbars;
      slowest_[i - 1] = saturating_sum(slowest_[i], layers[i - 1].front().time_ps);
    }
  }

  Numbers run() {
    std::vector<std::vector<State>> levels = {{State{}}};
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      std::vector<State> next = expand(levels.back(), layer);
      if (next.empty()) return best_;  // nothing is better than what is known
      levels.push_back(std::move(next));
    }
    std::size_t at = levels.back().size() - 1;  // the last is the fastest
    if (levels.back()[at].time >= best_time_) return best_;
    Numbers numbers(layers_.size());
    for (std::size_t layer = layers_.size(); layer > 0; --layer) {
      const State& state = levels[layer][at];
      numbers[layer - 1] = state.option;
      at = state.before;
    }
    return numbers;
  }

 private:
  /// A good choice to begin with: steps as long as they fit.
  void start(const std::vector<Step>& by_slope) {
    best_.assign(layers_.size(), 0);
    std::int64_t left = crossbars_ - least_of(layers_);
    for (const Step& step : by_slope) {
      const LayerOptions& options = layers_[step.layer];
      std::size_t& now = best_[step.layer];
      const std::int64_t more = options[step.to].crossbars - options[now].crossbars;
      if (more > left) continue;
      left -= more;
      now = step.to;
    }
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      best_time_ = saturating_sum(best_time_, layers_[i][best_[i]].time_ps);
    }
  }

  std::vector<State> expand(const std::vector<State>& states, std::size_t layer) const {
    std::vector<State> next;
    for (std::size_t s = 0; s < states.size(); ++s) {
      for (std::size_t o = 0; o < layers_[layer].size(); ++o) {
        const LayerOption& option = layers_[layer][o];
        const State state{states[s].crossbars + option.crossbars, saturating_sum(states[s].time, option.time_ps), s, o};
        const std::int64_t left = crossbars_ - state.crossbars - least_[layer + 1];
        if (left < 0) break;  // later options take more
        const Time all = saturating_sum(state.time, slowest_[layer + 1]);
        if (all - std::min(all, rest_[layer + 1].gain(left)) < best_time_) next.push_back(state);
      }
    }
    std::ranges::sort(next, {}, [](const State& s) { return std::tuple(s.crossbars, s.time, s.before, s.option); });
    std::vector<State> front;
    for (const State& state : next) {
      if (front.empty() || state.time < front.back().time) front.push_back(state);
    }
    return front;
  }

  std::span<const LayerOptions> layers_;
  std::int64_t crossbars_;
  std::vector<Relaxation> rest_;     // of the layers from each on
  std::vector<std::int64_t> least_;  // crossbars that they take at least
  std::vector<Time> slowest_;        // their time then
  Numbers best_;
  Time best_time_ = 0;
};

/// The least time that the slowest layer can take; something fits.
Time least_slowest(std::span<const LayerOptions> layers, std::int64_t crossbars) {
  const auto possible = [&](Time time) {
    std::int64_t sum = 0;
    for (const LayerOptions& options : layers) {
      const std::size_t number = first_within(options, time);
      if (number == options.size()) return false;
      sum += options[number].crossbars;
    }
    return sum <= crossbars;
  };
  std::vector<Time> times;
  for (const LayerOptions& options : layers) {
    for (const LayerOption& option : options) times.push_back(option.time_ps);
  }
  std::ranges::sort(times);
  // The last one is possible: every layer takes its first option then.
  const auto least = std::ranges::partition_point(times, [&](Time time) { return !possible(time); });
  return least == times.end() ? 0 : *least;
}

/// The least sum of times where no layer takes more than `time`, which is possible.
Choice choose_within(std::span<const LayerOptions> layers, std::int64_t crossbars, Time time) {
  std::vector<LayerOptions> fast;
  Numbers skipped;
  for (const LayerOptions& options : layers) {
    skipped.push_back(first_within(options, time));
    fast.emplace_back(options.begin() + static_cast<std::ptrdiff_t>(skipped.back()), options.end());
  }
  Choice choice = choose_latency(fast, crossbars);
  for (std::size_t i = 0; choice && i < skipped.size(); ++i) (*choice)[i] += skipped[i];
  return choice;
}

constexpr std::array<std::pair<std::string_view, CopyRule>, 6> kRules = {{{"none", CopyRule::kNone},
                                                                          {"greedy", CopyRule::kGreedy},
                                                                          {"throughput", CopyRule::kThroughput},
                                                                          {"balanced", CopyRule::kBalanced},
                                                                          {"latency", CopyRule::kLatency},
                                                                          {"any", CopyRule::kAny}}};

}  // namespace

CopyRule copy_rule_named(std::string_view name) {
  for (const auto& [known, rule] : kRules) {
    if (known == name) return rule;
  }
  throw Error(message("there is no rule of duplication '", printable(name, 80),
                      "'; the rules are none, greedy, throughput, balanced, latency, any"));
}

std::string_view name_of(CopyRule rule) {
  for (const auto& [name, known] : kRules) {
    if (known == rule) return name;
  }
  throw Error(message("rule ", static_cast<int>(rule), " has no name"));
}

Choice choose_greedy(std::span<const LayerOptions> layers, std::int64_t crossbars) {
  if (!any_fits(layers, crossbars)) return std::nullopt;
  Numbers numbers(layers.size());
  std::int64_t left = crossbars - least_of(layers);
  // The slowest first, then the first.
  using Entry = std::pair<Time, std::size_t>;
  const auto comes_later = [](const Entry& a, const Entry& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  };
  std::priority_queue<Entry, std::vector<Entry>, decltype(comes_later)> queue(comes_later);
  for (std::size_t i = 0; i < layers.size(); ++i) queue.emplace(layers[i].front().time_ps, i);
  while (!queue.empty()) {
    const std::size_t i = queue.top().second;
    queue.pop();
    const LayerOptions& options = layers[i];
    if (numbers[i] + 1 == options.size()) continue;
    const std::int64_t more = options[numbers[i] + 1].crossbars - options[numbers[i]].crossbars;
    if (more > left) continue;
    left -= more;
    queue.emplace(options[++numbers[i]].time_ps, i);
  }
  return numbers;
}

Choice choose_throughput(std::span<const LayerOptions> layers, std::int64_t crossbars) {
  if (!any_fits(layers, crossbars)) return std::nullopt;
  return choose_within(layers, crossbars, least_slowest(layers, crossbars));
}

Choice choose_balanced(std::span<const LayerOptions> layers, std::int64_t crossbars) {
  if (!any_fits(layers, crossbars)) return std::nullopt;
  const Time least = least_slowest(layers, crossbars);
  return choose_within(layers, crossbars, saturating_sum(least, least / 2));
}
Choice choose_latency(std::span<const LayerOptions> layers, std::int64_t crossbars) {
  if (!any_fits(layers, crossbars)) return std::nullopt;
  return LatencySearch(layers, crossbars).run();
}

Choice choose(CopyRule rule, std::span<const LayerOptions> layers, std::int64_t crossbars) {
  switch (rule) {
    case CopyRule::kGreedy:
      return choose_greedy(layers, crossbars);
    case CopyRule::kThroughput:
      return choose_throughput(layers, crossbars);
    case CopyRule::kBalanced:
      return choose_balanced(layers, crossbars);
    case CopyRule::kLatency:
      return choose_latency(layers, crossbars);
    case CopyRule::kNone:
    case CopyRule::kAny:
      break;
  }
  throw Error(message("the rule '", name_of(rule), "' does not choose by itself"));
}

}  // namespace cimq::compiler
