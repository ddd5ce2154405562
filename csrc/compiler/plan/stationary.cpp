#include "compiler/plan/stationary.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>
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
  Planning(PlanMemory& memory, std::span<const LayerLoad> loads) : memory_(memory), loads_(loads.begin(), loads.end()) {
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
    if (!limit || staying_ + least_pool_ <= *limit) return fill(memory_, least_pool_, staying_);
    // Fewer crossbars than there are may do better where the room that is left is taken by the wrong layer; with these
    // among the candidates, a machine is never slower than one of half its size.
    std::set<std::int64_t> sizes = {*limit};
    for (std::int64_t size = 1; size < *limit; size *= 2) sizes.insert(size);
    PoolMachine alone = memory_.machine();
    alone.batch = 1;
    PlanMemory of_one_sample(alone);
    StationaryPlan best;
    for (const std::int64_t size : sizes) {
      for (const std::int64_t pool : pools(size)) {
        const auto take = [&](StationaryPlan plan) {
          if (best.pool == 0 || plan.better_than(best)) best = std::move(plan);  // every plan here has a pool
        };
        take(fill(memory_, pool, size - pool));
        // In the order for one sample alone as well: then none takes longer in a batch.
        if (memory_.machine().batch > 1) take(fill(of_one_sample, pool, size - pool));
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
    std::vector<PoolOptions> tried;
    for (const std::int64_t pool : sizes) {
      PoolOptions options = options_with(pool, limit, choose_copies);
      const std::optional<Time> least = bound_of(options, rule, limit - pool);
      if (!least) continue;
      options.bound = *least;
      tried.push_back(std::move(options));
    }
    // Those that may be the fastest come first: what is bounded by more than the best needs no look.
    std::ranges::sort(tried, {}, [](const PoolOptions& options) { return std::pair(options.bound, options.pool); });
    std::optional<StationaryPlan> best;
    std::tuple<Time, Time, std::int64_t, std::int64_t> least;  // of the best
    for (const PoolOptions& options : tried) {
      if (best && options.bound > (by_slowest(rule) ? std::get<0>(least) : best->time_ps)) break;
      const Choice choice = choose(rule, options.layers, limit - options.pool);
      if (!choice) continue;
      StationaryPlan plan = planned(options.pool, options.layers, *choice);
      const Time slowest = by_slowest(rule) ? slowest_of(options.layers, *choice) : 0;
      const std::tuple found(slowest, plan.time_ps, plan.writes, options.pool);
      if (best && found >= least) continue;
      best = std::move(plan);
      least = found;
    }
    return best;
  }

 private:
  /// What layers may take beside a pool.
  struct PoolOptions {
    std::int64_t pool = 0;
    std::vector<OptionsView> layers, hulls;
    Time bound = 0;  // no plan is better than that
  };

  PoolOptions options_with(std::int64_t pool, std::int64_t limit, bool choose_copies) const {
    PoolOptions options{pool, {}, {}, 0};
    options.layers.reserve(loads_.size());
    options.hulls.reserve(loads_.size());
    for (const LayerLoad& load : loads_) {
      const std::optional<std::int64_t> copies = choose_copies ? std::nullopt : std::optional(load.copies);
      const KeptOptions& kept = memory_.options(load, pool, limit - pool, copies);
      options.layers.emplace_back(kept.all);
      options.hulls.emplace_back(kept.hull);
    }
    return options;
  }

  /// What the slowest layer, or by other rules the network, takes at least; nothing where not all layers fit.
  std::optional<Time> bound_of(const PoolOptions& options, CopyRule rule, std::int64_t crossbars) const {
    if (by_slowest(rule)) return least_slowest(options.layers, crossbars);
    std::int64_t least = 0;
    for (const OptionsView& layer : options.layers) {
      if (layer.empty()) return std::nullopt;
      least += layer.front().crossbars;
    }
    if (least > crossbars) return std::nullopt;
    const PoolMachine& machine = memory_.machine();
    // Of a batch every sample goes through all layers, and while one stays the samples may be in different ones.
    const Time sum = least_sum_bound(options.hulls, crossbars) / static_cast<Time>(machine.batch);
    if (options.pool == 0) return sum;
    // Layers that pass take turns at the first crossbar of the pool, so that nothing but the first write of one
    // overlaps with anything: with the layer before, where that stays. Groups and ports let more of them overlap.
    const bool single = std::ranges::all_of(loads_, [](const LayerLoad& load) { return load.groups == 1; });
    if (!single || machine.parallel_writes > 0) return 0;
    const Time hidden = saturating_product(loads_.size() / 2, machine.write_time_ps);
    return sum - std::min(sum, hidden);
  }

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

  PoolMachine machine_with(std::int64_t pool) const {
    PoolMachine machine = memory_.machine();
    machine.pool = pool;
    return machine;
  }

  /// Fills what a pool of this size leaves; `times`: of layers by themselves, by which they are ordered.
  StationaryPlan fill(PlanMemory& times, std::int64_t pool, std::int64_t room) const {
    std::vector<std::size_t> order(loads_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::vector<double> gains(loads_.size());  // per crossbar
    for (std::size_t i = 0; pool > 0 && i < loads_.size(); ++i) {
      const auto passing = static_cast<double>(times.alone(loads_[i], pool, 0));
      const auto staying = static_cast<double>(times.alone(loads_[i], pool, loads_[i].all()));
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
        plan.writes += written(load, 0);
        continue;
      }
      // Any tiles of the only group, or whole groups.
      plan.resident[i] =
          load.groups == 1 ? std::min(room, load.tiles) : std::min(room / load.tiles, load.groups) * load.tiles;
      room -= plan.resident[i];
      plan.writes += written(load, plan.resident[i]);
    }
    plan.time_ps = time_in_rounds(machine_with(pool), loads_, plan.resident);
    return plan;
  }

  StationaryPlan planned(std::int64_t pool, const std::vector<OptionsView>& options,
                         const std::vector<std::size_t>& choice) const {
    StationaryPlan plan;
    plan.pool = pool;
    std::vector<LayerLoad> loads = loads_;
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const LayerOption& option = options[i][choice[i]];
      loads[i].copies = option.copies;
      plan.copies.push_back(option.copies);
      plan.resident.push_back(option.crossbars);
      plan.writes += written(loads[i], option.crossbars);
    }
    if (plan.writes == 0) plan.pool = 0;
    plan.time_ps = time_in_rounds(machine_with(pool), loads, plan.resident);
    return plan;
  }

  std::int64_t written(const LayerLoad& load, std::int64_t resident) const {
    return (load.all() - resident) * (load.passes ? memory_.machine().batch : 1);
  }

  static Time slowest_of(const std::vector<OptionsView>& options, const std::vector<std::size_t>& choice) {
    Time slowest = 0;
    for (std::size_t i = 0; i < options.size(); ++i) slowest = std::max(slowest, options[i][choice[i]].time_ps);
    return slowest;
  }

  PlanMemory& memory_;
  std::vector<LayerLoad> loads_;
  std::int64_t all_ = 0, staying_ = 0;
  std::int64_t least_pool_ = 0;  // for the largest layer that always passes
};

}  // namespace

bool StationaryPlan::better_than(const StationaryPlan& other) const {
  return std::pair(time_ps, writes) < std::pair(other.time_ps, other.writes);
}

StationaryPlan plan_stationary(PlanMemory& memory, std::span<const LayerLoad> loads,
                               const std::optional<std::int64_t>& crossbars) {
  const Planning planning(memory, loads);
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

StationaryPlan plan_copies(PlanMemory& memory, std::span<const LayerLoad> loads,
                           const std::optional<std::int64_t>& crossbars, CopyRule rule) {
  std::vector<LayerLoad> single(loads.begin(), loads.end());
  for (LayerLoad& load : single) load.copies = 1;
  return plan_copies(memory, single, crossbars, rule, plan_stationary(memory, single, crossbars));
}

StationaryPlan plan_copies(PlanMemory& memory, std::span<const LayerLoad> loads,
                           const std::optional<std::int64_t>& crossbars, CopyRule rule, const StationaryPlan& without) {
  if (rule == CopyRule::kNone) return without;
  const Planning planning(memory, loads);
  const std::int64_t most = std::max(planning.all(), kMaxCopied);
  const bool with_pools = crossbars.has_value() || !planning.all_may_stay();
  const std::optional<StationaryPlan> chosen =
      planning.by_options(std::min(crossbars.value_or(most), most), with_pools, rule, true);
  if (!chosen) return without;
  // What will be found for these copies, and not less than this.
  std::vector<LayerLoad> copied(loads.begin(), loads.end());
  for (std::size_t i = 0; i < copied.size(); ++i) copied[i].copies = chosen->copies[i];
  StationaryPlan plan = plan_stationary(memory, copied, crossbars);
  return !by_slowest(rule) && !plan.better_than(without) ? without : plan;
}

std::optional<std::vector<std::int64_t>> copies_in_rows(PlanMemory& memory, std::span<const LayerLoad> loads,
                                                        std::span<const LayerRows> rows,
                                                        const std::optional<std::int64_t>& crossbars, CopyRule rule) {
  std::int64_t all = 0;
  for (const LayerLoad& load : loads) all += load.tiles * load.groups;
  const std::int64_t limit = std::min(crossbars.value_or(kMaxCopied), std::max(all, kMaxCopied));
  std::vector<OptionsView> options;
  options.reserve(loads.size());
  for (std::size_t i = 0; i < loads.size(); ++i) {
    LayerLoad load = loads[i];
    load.copies = 1;
    options.emplace_back(memory.in_rows(load, rows[i], limit));
  }
  const Choice choice = choose(rule, options, limit);
  if (!choice) return std::nullopt;
  std::vector<std::int64_t> copies;
  copies.reserve(loads.size());
  for (std::size_t i = 0; i < loads.size(); ++i) copies.push_back(options[i][(*choice)[i]].copies);
  return copies;
}

}  // namespace cimq::compiler
