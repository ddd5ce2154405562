#include "compiler/plan/least_sum.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "common/saturating.h"

namespace cimq::compiler {
namespace {

using Time = std::uint64_t;
using Numbers = std::vector<std::size_t>;

std::int64_t least_of(std::span<const OptionsView> layers) {
  std::int64_t sum = 0;
  for (const OptionsView& options : layers) sum += options.front().crossbars;
  return sum;
}

/// A step from one option of a layer to a later one, along the lower hull of its options: what time falls per crossbar
/// does not rise.
struct Step {
  std::int64_t crossbars = 0;
  Time gain = 0;
  std::size_t layer = 0, to = 0;
  double slope = 0.0;  // gain per crossbar
};

std::vector<Step> hull_of(const OptionsView& options, std::size_t layer) {
  const auto step_between = [&](std::size_t from, std::size_t to) -> Step {
    const std::int64_t crossbars = options[to].crossbars - options[from].crossbars;
    const Time gain = options[from].time_ps - options[to].time_ps;
    return {crossbars, gain, layer, to, static_cast<double>(gain) / static_cast<double>(crossbars)};
  };
  std::vector<Step> steps;
  for (std::size_t to = 1; to < options.size(); ++to) {
    Step step = step_between(steps.empty() ? 0 : steps.back().to, to);
    while (!steps.empty() && step.slope >= steps.back().slope) {
      steps.pop_back();
      step = step_between(steps.empty() ? 0 : steps.back().to, to);
    }
    steps.push_back(step);
  }
  return steps;
}

/// What the layers from one on gain at most over their first options, as if they could take parts of steps.
class Relaxation {
 public:
  explicit Relaxation(std::span<const Step> by_slope, std::size_t first_layer) {
    points_.reserve(by_slope.size() + 1);
    points_.push_back({0, 0});
    for (const Step& step : by_slope) {
      if (step.layer < first_layer) continue;
      points_.push_back({points_.back().crossbars + step.crossbars, saturating_sum(points_.back().gain, step.gain)});
    }
  }

  /// The last point that takes at most so many crossbars.
  std::size_t place(std::int64_t crossbars) const {
    const auto after = std::ranges::upper_bound(points_, crossbars, {}, &Point::crossbars);
    return static_cast<std::size_t>(after - points_.begin()) - 1;
  }

  /// Rounded up. `place`: that of at least so many crossbars, which becomes that of these.
  Time gain(std::int64_t crossbars, std::size_t& place) const {
    while (points_[place].crossbars > crossbars) --place;
    const Point& whole = points_[place];
    if (place + 1 == points_.size()) return whole.gain;
    const Point& after = points_[place + 1];
    const double part =
        static_cast<double>(crossbars - whole.crossbars) / static_cast<double>(after.crossbars - whole.crossbars);
    const Time step = after.gain - whole.gain;
    const double gain = std::ceil(static_cast<double>(step) * part * (1.0 + 1e-12)) + 1.0;
    return whole.gain + std::min(step, static_cast<Time>(gain));
  }

 private:
  struct Point {
    std::int64_t crossbars = 0;
    Time gain = 0;
  };
  std::vector<Point> points_;
};

/// The choice for the layers so far.
struct State {
  std::int64_t crossbars = 0;
  Time time = 0;
  std::size_t before = 0;  // its state one layer earlier
  std::size_t option = 0;
  Time bound = 0;  // no completion takes less
};
using Levels = std::vector<std::vector<State>>;

class LatencySearch {
 public:
  LatencySearch(std::span<const OptionsView> layers, std::int64_t crossbars) : layers_(layers), crossbars_(crossbars) {
    std::vector<Step> steps;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::vector<Step> own = hull_of(layers[i], i);
      steps.insert(steps.end(), own.begin(), own.end());
    }
    std::ranges::sort(steps, [](const Step& a, const Step& b) {
      return a.slope != b.slope ? a.slope > b.slope : std::pair(a.layer, a.to) < std::pair(b.layer, b.to);
    });
    start(steps);
    rest_.reserve(layers.size() + 1);
    for (std::size_t i = 0; i <= layers.size(); ++i) rest_.emplace_back(steps, i);
    least_.resize(layers.size() + 1);
    slowest_.resize(layers.size() + 1);
    for (std::size_t i = layers.size(); i > 0; --i) {
      least_[i - 1] = least_[i] + layers[i - 1].front().crossbars;
      slowest_[i - 1] = saturating_sum(slowest_[i], layers[i - 1].front().time_ps);
    }
  }

  Numbers run() {
    if (best_time_ == 0) return best_;
    // A narrow search first: what it finds leaves the whole one little to look at, and does not change its result: all
    // that leads to the least sum has a bound of no more than it.
    limit_ = best_time_ - 1;
    const Levels narrow = levels(kNarrow);
    if (!narrow.empty()) limit_ = narrow.back().back().time;
    const Levels whole = levels(std::numeric_limits<std::size_t>::max());
    if (whole.empty()) return best_;           // nothing is better than what is known
    std::size_t at = whole.back().size() - 1;  // the last is the fastest
    Numbers numbers(layers_.size());
    for (std::size_t layer = layers_.size(); layer > 0; --layer) {
      const State& state = whole[layer][at];
      numbers[layer - 1] = state.option;
      at = state.before;
    }
    return numbers;
  }

 private:
  static constexpr std::size_t kNarrow = 8;

  /// A good choice to begin with: steps as long as they fit.
  void start(const std::vector<Step>& by_slope) {
    best_.assign(layers_.size(), 0);
    std::int64_t left = crossbars_ - least_of(layers_);
    for (const Step& step : by_slope) {
      const OptionsView& options = layers_[step.layer];
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

  /// States layer by layer that may lead to a sum of `limit_` at most; none where none does. At most `width` of a layer
  /// are gone on from, those with the least bounds.
  Levels levels(std::size_t width) const {
    Levels levels = {{State{}}};
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      std::vector<State> next = expand(levels.back(), layer);
      if (next.empty()) return {};
      if (next.size() > width) narrow(next, width);
      levels.push_back(std::move(next));
    }
    return levels;
  }

  static void narrow(std::vector<State>& states, std::size_t width) {
    std::vector<Time> bounds;
    bounds.reserve(states.size());
    for (const State& state : states) bounds.push_back(state.bound);
    const auto last = bounds.begin() + static_cast<std::ptrdiff_t>(width) - 1;
    std::ranges::nth_element(bounds, last);
    std::erase_if(states, [most = *last](const State& state) { return state.bound > most; });
  }

  std::vector<State> expand(const std::vector<State>& states, std::size_t layer) const {
    std::vector<State> next;
    const Relaxation& rest = rest_[layer + 1];
    for (std::size_t s = 0; s < states.size(); ++s) {
      const std::int64_t room = crossbars_ - states[s].crossbars - least_[layer + 1];
      std::size_t place = 0;
      for (std::size_t o = 0; o < layers_[layer].size(); ++o) {
        const LayerOption& option = layers_[layer][o];
        const std::int64_t left = room - option.crossbars;
        if (left < 0) break;  // later options take more
        if (o == 0) place = rest.place(left);
        const Time time = saturating_sum(states[s].time, option.time_ps);
        const Time all = saturating_sum(time, slowest_[layer + 1]);
        const Time bound = all - std::min(all, rest.gain(left, place));
        if (bound <= limit_) next.push_back({states[s].crossbars + option.crossbars, time, s, o, bound});
      }
    }
    std::ranges::sort(next, {}, [](const State& s) { return std::tuple(s.crossbars, s.time, s.before, s.option); });
    std::vector<State> front;
    for (const State& state : next) {
      if (front.empty() || state.time < front.back().time) front.push_back(state);
    }
    return front;
  }

  std::span<const OptionsView> layers_;
  std::int64_t crossbars_;
  std::vector<Relaxation> rest_;     // of the layers from each on
  std::vector<std::int64_t> least_;  // crossbars that they take at least
  std::vector<Time> slowest_;        // their time then
  Numbers best_;
  Time best_time_ = 0;
  Time limit_ = 0;
};

/// The option of a hull that is best at a price of crossbars.
const LayerOption& at_price(const OptionsView& hull, double price) {
  std::size_t low = 0, high = hull.size() - 1;  // steps up to `low` gain the price; those after `high` do not
  while (low < high) {
    const std::size_t middle = high - (high - low) / 2;
    const LayerOption& from = hull[middle - 1];
    const LayerOption& to = hull[middle];
    if (static_cast<double>(from.time_ps - to.time_ps) >= price * static_cast<double>(to.crossbars - from.crossbars)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return hull[low];
}

}  // namespace

bool any_fits(std::span<const OptionsView> layers, std::int64_t crossbars) {
  const bool all = std::ranges::none_of(layers, &OptionsView::empty);
  return all && least_of(layers) <= crossbars;
}

LayerOptions lower_hull(OptionsView options) {
  LayerOptions hull;
  if (options.empty()) return hull;
  hull.push_back(options.front());
  for (const Step& step : hull_of(options, 0)) hull.push_back(options[step.to]);
  return hull;
}

std::uint64_t least_sum_bound(std::span<const OptionsView> hulls, std::int64_t crossbars) {
  // Lagrange: at any price of a crossbar, the least sum of times and prices less the price of all crossbars. The best
  // price is where just as many are taken.
  constexpr int kHalvings = 24;
  constexpr double kRounding = 1e-9;
  double low = 0.0, high = 0.0;
  for (const OptionsView& hull : hulls) {
    if (hull.size() < 2) continue;
    high = std::max(high, static_cast<double>(hull[0].time_ps - hull[1].time_ps) /
                              static_cast<double>(hull[1].crossbars - hull[0].crossbars));
  }
  double best = 0.0;
  for (int i = 0; i <= kHalvings; ++i) {
    const double price = i == 0 ? 0.0 : low + (high - low) / 2;
    double times = 0.0;
    std::int64_t taken = 0;
    for (const OptionsView& hull : hulls) {
      const LayerOption& option = at_price(hull, price);
      times += static_cast<double>(option.time_ps);
      taken += option.crossbars;
    }
    best = std::max(best, times - price * static_cast<double>(crossbars - taken) -
                              kRounding * (times + price * static_cast<double>(crossbars + taken)));
    if (taken > crossbars) {
      low = price;
    } else {
      high = price;
    }
    if (i == 0 && taken <= crossbars) break;  // all there is fits
  }
  return static_cast<std::uint64_t>(best);
}

Choice choose_latency(std::span<const OptionsView> layers, std::int64_t crossbars) {
  if (!any_fits(layers, crossbars)) return std::nullopt;
  return LatencySearch(layers, crossbars).run();
}

}  // namespace cimq::compiler
