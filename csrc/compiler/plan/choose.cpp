#include "compiler/plan/choose.h"

#include <algorithm>
#include <array>
#include <queue>
#include <utility>

#include "common/error.h"
#include "common/printable.h"
#include "common/saturating.h"
#include "compiler/plan/least_sum.h"

namespace cimq::compiler {
namespace {

using Time = std::uint64_t;
using Numbers = std::vector<std::size_t>;

/// The first option of a layer that takes at most `time`; none: its size.
std::size_t first_within(const OptionsView& options, Time time) {
  const auto slower = [time](const LayerOption& option) { return option.time_ps > time; };
  return static_cast<std::size_t>(std::ranges::partition_point(options, slower) - options.begin());
}

/// Crossbars of the first options that take at most `time`, or of the last ones; nothing beyond `most`.
std::optional<std::int64_t> crossbars_within(std::span<const OptionsView> layers, Time time, std::int64_t most,
                                             bool or_last) {
  std::int64_t sum = 0;
  for (const OptionsView& options : layers) {
    std::size_t number = first_within(options, time);
    if (number == options.size()) {
      if (!or_last) return std::nullopt;
      --number;
    }
    sum += options[number].crossbars;
    if (sum > most) return std::nullopt;
  }
  return sum;
}

/// The least time for which crossbars_within is something; it is for the longest.
Time least_time(std::span<const OptionsView> layers, std::int64_t most, bool or_last) {
  Time beyond = 0, within = 0;  // not known: below `beyond` it is nothing
  for (const OptionsView& options : layers) within = std::max(within, options.front().time_ps);
  while (beyond < within) {
    const Time middle = beyond + (within - beyond) / 2;
    if (crossbars_within(layers, middle, most, or_last)) {
      within = middle;
    } else {
      beyond = middle + 1;
    }
  }
  return within;
}

/// The least sum of times where no layer takes more than `time`, which is possible.
Choice choose_within(std::span<const OptionsView> layers, std::int64_t crossbars, Time time) {
  std::vector<OptionsView> fast;
  Numbers skipped;
  for (const OptionsView& options : layers) {
    skipped.push_back(first_within(options, time));
    fast.push_back(options.subspan(skipped.back()));
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

std::optional<std::uint64_t> least_slowest(std::span<const OptionsView> layers, std::int64_t crossbars) {
  if (!any_fits(layers, crossbars)) return std::nullopt;
  return least_time(layers, crossbars, false);
}

Choice choose_greedy(std::span<const OptionsView> layers, std::int64_t crossbars) {
  if (!any_fits(layers, crossbars)) return std::nullopt;
  Numbers numbers(layers.size());
  // While all steps fit, the slowest layer's next option means that all layers go down to a time together.
  const Time together = least_time(layers, crossbars, true);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    numbers[i] = std::min(first_within(layers[i], together), layers[i].size() - 1);
  }
  std::int64_t left = crossbars;
  for (std::size_t i = 0; i < layers.size(); ++i) left -= layers[i][numbers[i]].crossbars;
  // The slowest first, then the first.
  using Entry = std::pair<Time, std::size_t>;
  const auto comes_later = [](const Entry& a, const Entry& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  };
  std::priority_queue<Entry, std::vector<Entry>, decltype(comes_later)> queue(comes_later);
  for (std::size_t i = 0; i < layers.size(); ++i) queue.emplace(layers[i][numbers[i]].time_ps, i);
  while (!queue.empty()) {
    const std::size_t i = queue.top().second;
    queue.pop();
    const OptionsView& options = layers[i];
    if (numbers[i] + 1 == options.size()) continue;
    const std::int64_t more = options[numbers[i] + 1].crossbars - options[numbers[i]].crossbars;
    if (more > left) continue;
    left -= more;
    queue.emplace(options[++numbers[i]].time_ps, i);
  }
  return numbers;
}

Choice choose_throughput(std::span<const OptionsView> layers, std::int64_t crossbars) {
  const std::optional<Time> least = least_slowest(layers, crossbars);
  return least ? choose_within(layers, crossbars, *least) : std::nullopt;
}

Choice choose_balanced(std::span<const OptionsView> layers, std::int64_t crossbars) {
  const std::optional<Time> least = least_slowest(layers, crossbars);
  return least ? choose_within(layers, crossbars, saturating_sum(*least, *least / 2)) : std::nullopt;
}

Choice choose(CopyRule rule, std::span<const OptionsView> layers, std::int64_t crossbars) {
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
