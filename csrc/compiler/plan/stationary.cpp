#include "compiler/plan/stationary.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/ir/limits.h"

namespace cimq::compiler {
namespace {

using Time = std::uint64_t;

/// Whether the slowest layer decides.
bool by_slowest(CopyRule rule) { return rule == CopyRule::kThroughput || rule == CopyRule::kBalanced; }

class Planning {
 public:
  Planning(const PoolMachine& machine, std::span<const LayerLoad> loads)
      : machine_(machine), loads_(loads.begin(), loads.end()) {
    for (const LayerLoad& load : loads_) {
      all_ += load.all();
      if (load.passes) least_pool_ = std::max(least_pool_, load.all());
      if (!load.passes) staying_ += load.all();
    }
  }

  std::int64_t all() const { return all_; }
  /// Whether everything can stay.
  bool all_may_stay() const { return least_pool_ == 0; }

  /// Without copies. Not exhaustive: for every size of the pool, layers are taken in the order of what a crossbar gains
  /// them by themselves.
  StationaryPlan by_gain(const std::optional<std::int64_t>& limit) const {
    // Everything stays that may, and what may not passes at once.
    if (!limit || staying_ + least_pool_ <= *limit) return fill(least_pool_, staying_);
    // Fewer crossbars than there are may do better where the room that is left is taken by the wrong layer; with these
    // among the candidates, a machine is never slower than one of half its size.
    std::set<std::int64_t> sizes = {*limit};
    for (std::int64_t size = 1; size < *limit; size *= 2) sizes.insert(size);
    StationaryPlan best;
    for (const std::int64_t size : sizes) {
      for (const std::int64_t pool : pools(size)) {
        StationaryPlan plan = fill(pool, size - pool);
        if (best.pool == 0 || plan.better_than(best)) best = std::move(plan);  // every plan here has a pool
      }
    }
    return best;
  }

  /// Every layer takes one of its options, without a pool and for every size of it; nothing where none lets all layers
  /// fit.
  std::optional<StationaryPlan> by_options(std::int64_t limit, bool with_pools, CopyRule rule,
                                           bool choose_copies) const {
    std::set<std::int64_t> sizes = {0};
    if (with_pools) sizes.merge(pools(limit));
    std::optional<StationaryPlan> best;
    Time slowest_of_best = 0;
    for (const std::int64_t pool : sizes) {
      PoolMachine machine = machine_;
      machine.pool = pool;
      std::vector<LayerOptions> options;
      options.reserve(loads_.size());
      for (const LayerLoad& load : loads_) {
        const std::optional<std::int64_t> copies = choose_copies ? std::nullopt : std::optional(load.copies);
        options.push_back(options_of(load, machine, limit - pool, copies));
      }
      const Choice choice = choose(rule, options, limit - pool);
      if (!choice) continue;
      StationaryPlan plan = planned(machine, options, *choice);
      const Time slowest = by_slowest(rule) ? slowest_of(options, *choice) : 0;
      if (!best || slowest < slowest_of_best || (slowest == slowest_of_best && plan.better_than(*best))) {
        best = std::move(plan);
        slowest_of_best = slowest;
      }
    }
    return best;
  }

 private:
  /// Sizes that a layer or its group fills, and powers of two between.
  std::set<std::int64_t> pools(std::int64_t limit) const {
    std::set<std::int64_t> pools = {limit};
    for (std::int64_t size = 1; size < limit; size *= 2) pools.insert(size);
    for (const LayerLoad& load : loads_) {
      for (const std::int64_t size : {load.tiles, load.tiles * load.copies, load.tiles * load.groups, load.all()}) {
        if (size < limit) pools.insert(size);
      }
    }
    return pools;
  }

  /// A layer by itself.
  Time time_of(std::size_t layer, std::int64_t resident, std::int64_t pool) const {
    PoolMachine machine = machine_;
    machine.pool = pool;
    return time_in_rounds(machine, std::span(&loads_[layer], 1), std::span(&resident, 1));
  }

  /// Fills what a pool of this size leaves.
  StationaryPlan fill(std::int64_t pool, std::int64_t room) const {
    std::vector<std::size_t> order(loads_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::vector<double> gains(loads_.size());  // per crossbar
    for (std::size_t i = 0; pool > 0 && i < loads_.size(); ++i) {
      const auto passing = static_cast<double>(time_of(i, 0, pool));
      const auto staying = static_cast<double>(time_of(i, loads_[i].all(), pool));
      gains[i] = (passing - staying) / static_cast<double>(loads_[i].all());
    }
    std::ranges::sort(order, {}, [&gains](std::size_t i) { return std::pair(-gains[i], i); });
    StationaryPlan plan;
    plan.pool = pool;
    plan.resident.resize(loads_.size());
    plan.copies.assign(loads_.size(), 1);
    for (const std::size_t i : order) {
      const LayerLoad& load = loads_[i];
      if (load.passes) {
        plan.writes += load.all();
        continue;
      }
      // Any tiles of the only group, or whole groups.
      plan.resident[i] =
          load.groups == 1 ? std::min(room, load.tiles) : std::min(room / load.tiles, load.groups) * load.tiles;
      room -= plan.resident[i];
      plan.writes += load.all() - plan.resident[i];
    }
    PoolMachine machine = machine_;
    machine.pool = pool;
    plan.time_ps = time_in_rounds(machine, loads_, plan.resident);
    return plan;
  }

  StationaryPlan planned(const PoolMachine& machine, const std::vector<LayerOptions>& options,
                         const std::vector<std::size_t>& choice) const {
    StationaryPlan plan;
    plan.pool = machine.pool;
    std::vector<LayerLoad> loads = loads_;
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const LayerOption& option = options[i][choice[i]];
      loads[i].copies = option.copies;
      plan.copies.push_back(option.copies);
      plan.resident.push_back(option.crossbars);
      plan.writes += loads[i].all() - option.crossbars;
    }
    if (plan.writes == 0) plan.pool = 0;
    plan.time_ps = time_in_rounds(machine, loads, plan.resident);
    return plan;
  }

  static Time slowest_of(const std::vector<LayerOptions>& options, const std::vector<std::size_t>& choice) {
    Time slowest = 0;
    for (std::size_t i = 0; i < options.size(); ++i) slowest = std::max(slowest, options[i][choice[i]].time_ps);
    return slowest;
  }

  PoolMachine machine_;
  std::vector<LayerLoad> loads_;
  std::int64_t all_ = 0, staying_ = 0;
  std::int64_t least_pool_ = 0;  // for the largest layer that always passes
};

}  // namespace

bool StationaryPlan::better_than(const StationaryPlan& other) const {
  return std::pair(time_ps, writes) < std::pair(other.time_ps, other.writes);
}

StationaryPlan plan_stationary(const PoolMachine& machine, std::span<const LayerLoad> loads,
                               const std::optional<std::int64_t>& crossbars) {
  const Planning planning(machine, loads);
  check(planning.all() <= kMaxCrossbars, "the network has ", planning.all(),
        " tiles in all of its groups and copies, a program places at most ", kMaxCrossbars);
  if (std::ranges::all_of(loads, [](const LayerLoad& load) { return load.copies == 1; })) {
    return planning.by_gain(crossbars);
  }
  const std::int64_t limit = crossbars ? std::min(*crossbars, planning.all()) : planning.all();
  const bool fits = limit == planning.all();
  std::optional<StationaryPlan> plan =
      planning.by_options(limit, !fits || !planning.all_may_stay(), CopyRule::kLatency, false);
  if (!plan) throw Error(message("a layer and its copies need more than the ", limit, " crossbars"));
  return *std::move(plan);
}

StationaryPlan plan_copies(const PoolMachine& machine, std::span<const LayerLoad> loads,
                           const std::optional<std::int64_t>& crossbars, CopyRule rule) {
  std::vector<LayerLoad> single(loads.begin(), loads.end());
  for (LayerLoad& load : single) load.copies = 1;
  StationaryPlan without = plan_stationary(machine, single, crossbars);
  if (rule == CopyRule::kNone) return without;
  const Planning planning(machine, single);
  const std::int64_t most = std::max(planning.all(), kMaxCopied);
  const bool with_pools = crossbars.has_value() || !planning.all_may_stay();
  const std::optional<StationaryPlan> chosen =
      planning.by_options(std::min(crossbars.value_or(most), most), with_pools, rule, true);
  if (!chosen) return without;
  // What will be found for these copies, and not less than this.
  for (std::size_t i = 0; i < single.size(); ++i) single[i].copies = chosen->copies[i];
  StationaryPlan plan = plan_stationary(machine, single, crossbars);
  return !by_slowest(rule) && !plan.better_than(without) ? without : plan;
}

std::optional<std::vector<std::int64_t>> copies_in_rows(std::span<const LayerLoad> loads,
                                                        std::span<const LayerRows> rows,
                                                        const std::optional<std::int64_t>& crossbars, CopyRule rule) {
  std::int64_t all = 0;
  for (const LayerLoad& load : loads) all += load.tiles * load.groups;
  const std::int64_t limit = std::min(crossbars.value_or(kMaxCopied), std::max(all, kMaxCopied));
  std::vector<LayerOptions> options;
  options.reserve(loads.size());
  for (std::size_t i = 0; i < loads.size(); ++i) {
    LayerLoad load = loads[i];
    load.copies = 1;
    options.push_back(options_in_rows(load, rows[i], limit));
  }
  const Choice choice = choose(rule, options, limit);
  if (!choice) return std::nullopt;
  std::vector<std::int64_t> copies;
  copies.reserve(loads.size());
  for (std::size_t i = 0; i < loads.size(); ++i) copies.push_back(options[i][(*choice)[i]].copies);
  return copies;
}

}  // namespace cimq::compiler
