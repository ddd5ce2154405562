#include <numeric>
#include <utility>

#include "compiler/passes/loads.h"
#include "compiler/passes/place.h"
#include "compiler/plan/stationary.h"

namespace cimq::compiler {
namespace {

void place_stationary(Module& module, Context&) {
  std::vector<LayerLoad> loads = loads_of(module);
  for (std::size_t i = 0; i < loads.size(); ++i) loads[i].copies = copies_of(module)[i];
  PlanMemory memory(pool_machine(module.hardware, module.batch));
  const StationaryPlan plan = plan_stationary(memory, loads, module.hardware.resources.crossbars);
  std::vector<std::int64_t> pool(static_cast<std::size_t>(plan.pool));
  std::iota(pool.begin(), pool.end(), std::int64_t{0});
  std::int64_t next = plan.pool;
  std::vector<LayerPlacement> layers;
  layers.reserve(loads.size());
  for (std::size_t i = 0; i < loads.size(); ++i) {
    const std::int64_t resident = plan.resident[i];
    const bool stays = resident == loads[i].all();
    layers.push_back({resident, next, loads[i].copies, stays ? std::vector<std::int64_t>{} : pool});
    next += resident;
  }
  module.placement = std::move(layers);
}

}  // namespace

Pass place_stationary_pass() {
  return {"place_stationary", {Part::kTiles, Part::kCopies}, Part::kPlacement, place_stationary};
}

}  // namespace cimq::compiler
