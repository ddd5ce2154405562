#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/cost/durations.h"
#include "compiler/cost/rounds.h"
#include "compiler/cost/tier1.h"
#include "compiler/ir/limits.h"
#include "compiler/passes/place.h"

namespace cimq::compiler {
namespace {

struct Choice {
  std::uint64_t time_ps = kUncountable;
  std::int64_t writes = 0;
  std::int64_t pool = 0;
  std::vector<std::int64_t> resident;  ///< by layer

  bool better_than(const Choice& other) const {
    return std::pair(time_ps, writes) < std::pair(other.time_ps, other.writes);
  }
};

/// Finds the placement for a machine. Not exhaustive: for every size of the pool, layers are taken in the order of what
/// a crossbar gains them by themselves.
class Placing {
 public:
  Placing(const PoolMachine& machine, std::vector<LayerLoad> loads) : machine_(machine), loads_(std::move(loads)) {
    for (const LayerLoad& load : loads_) all_ += load.all();
  }

  Choice best(const std::optional<std::int64_t>& limit) {
    check(all_ <= kMaxCrossbars, "the network has ", all_, " tiles in all of its groups, a program places at most ",
          kMaxCrossbars);
    if (!limit || all_ <= *limit) return choose(0, all_);  // everything stays
    // Fewer crossbars than there are may do better where the room that is left is taken by the wrong layer; with these
    // among the candidates, a machine is never slower than one of half its size.
    std::set<std::int64_t> sizes = {*limit};
    for (std::int64_t size = 1; size < *limit; size *= 2) sizes.insert(size);
    Choice best;
    for (const std::int64_t size : sizes) {
      for (const std::int64_t pool : pools(size)) {
        const Choice choice = choose(pool, size - pool);
        if (best.pool == 0 || choice.better_than(best)) best = choice;
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
      for (const std::int64_t size : {load.tiles, load.all()}) {
        if (size < limit) pools.insert(size);
      }
    }
    return pools;
  }

  /// A layer by itself.
  std::uint64_t time_of(std::size_t layer, std::int64_t resident, std::int64_t pool) const {
    PoolMachine machine = machine_;
    machine.pool = pool;
    return time_in_rounds(machine, std::span(&loads_[layer], 1), std::span(&resident, 1));
  }

  /// Fills what a pool of this size leaves.
  Choice choose(std::int64_t pool, std::int64_t room) const {
    std::vector<std::size_t> order(loads_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::vector<double> gains(loads_.size());  // per crossbar
    for (std::size_t i = 0; pool > 0 && i < loads_.size(); ++i) {
      const auto passing = static_cast<double>(time_of(i, 0, pool));
      const auto staying = static_cast<double>(time_of(i, loads_[i].all(), pool));
      gains[i] = (passing - staying) / static_cast<double>(loads_[i].all());
    }
    std::ranges::sort(order, {}, [&gains](std::size_t i) { return std::pair(-gains[i], i); });
    Choice choice;
    choice.pool = pool;
    choice.resident.resize(loads_.size());
    for (const std::size_t i : order) {
      const LayerLoad& load = loads_[i];
      // Any tiles of the only group, or whole groups.
      choice.resident[i] =
          load.groups == 1 ? std::min(room, load.tiles) : std::min(room / load.tiles, load.groups) * load.tiles;
      room -= choice.resident[i];
      choice.writes += load.all() - choice.resident[i];
    }
    PoolMachine machine = machine_;
    machine.pool = pool;
    choice.time_ps = time_in_rounds(machine, loads_, choice.resident);
    return choice;
  }

  PoolMachine machine_;
  std::vector<LayerLoad> loads_;
  std::int64_t all_ = 0;
};

void place_stationary(Module& module, Context&) {
  const Hardware& hardware = module.hardware;
  std::vector<LayerLoad> loads;
  loads.reserve(tiles_of(module).size());
  for (const TiledLayer& layer : tiles_of(module)) {
    const CrossbarLayer& facts = crossbar_of(module.graph.nodes[layer.node]);
    // All tiles see a vector together: the widest has most to convert.
    const std::int64_t columns = std::min<std::int64_t>(layer.tiling.columns, hardware.cols);
    const std::int64_t step_ps = digit_time(hardware, converted_lines(hardware, 0, columns)).step_ps();
    loads.push_back({layer.tiling.tiles(), facts.repeats, facts.invocations, step_ps * layer.tiling.digits});
  }
  const PoolMachine machine{0, picoseconds(hardware.timing.write_time_us),
                            hardware.resources.parallel_writes.value_or(0)};
  const Choice choice = Placing(machine, loads).best(hardware.resources.crossbars);
  std::vector<std::int64_t> pool(static_cast<std::size_t>(choice.pool));
  std::iota(pool.begin(), pool.end(), std::int64_t{0});
  std::int64_t next = choice.pool;
  std::vector<LayerPlacement> layers;
  layers.reserve(loads.size());
  for (std::size_t i = 0; i < loads.size(); ++i) {
    const std::int64_t resident = choice.resident[i];
    layers.push_back({resident, next, resident == loads[i].all() ? std::vector<std::int64_t>{} : pool});
    next += resident;
  }
  module.placement = std::move(layers);
}

}  // namespace

Pass place_stationary_pass() { return {"place_stationary", {Part::kTiles}, Part::kPlacement, place_stationary}; }

}  // namespace cimq::compiler
