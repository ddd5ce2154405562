#include "compiler/passes/fastest.h"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "compiler/passes/duplicate.h"
#include "compiler/passes/loads.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/place.h"
#include "compiler/passes/schedule.h"
#include "compiler/plan/stationary.h"
#include "compiler/plan/ways.h"
#include "compiler/sim/simulate.h"

namespace cimq::compiler {
namespace {

/// A way to a program, with the copies that it takes.
struct Trial {
  Duplication duplication;
  bool in_rows = false;
  std::string text;
};

/// Copies of layers that all stay and come in rows; none where there are too few crossbars for that.
std::optional<Duplication> copies_that_stay(const Module& module, CopyRule rule) {
  PlanMemory memory(pool_machine(module.hardware, module.batch));
  const auto staying =
      copies_in_rows(memory, loads_of(module), rows_of_layers(module), module.hardware.resources.crossbars, rule);
  if (!staying) return std::nullopt;
  std::map<std::string, std::int64_t> copies;
  for (std::size_t i = 0; i < staying->size(); ++i) {
    copies[crossbar_of(module.graph.nodes[tiles_of(module)[i].node]).layer_name] = (*staying)[i];
  }
  return copies;
}

std::vector<Trial> trials_of(const Module& module, const Duplication& duplication) {
  const auto* rule = std::get_if<CopyRule>(&duplication);
  if (rule == nullptr) {
    return {{duplication, false, "layers in series; copies: as given"},
            {duplication, true, "layers overlap by rows; copies: as given"}};
  }
  std::vector<Trial> trials;
  for (const Way& way : ways_of(*rule)) {
    std::optional<Duplication> copies = way.rule;
    if (way.layers == Way::Layers::kStaying) copies = copies_that_stay(module, way.rule);
    if (copies) trials.push_back({*copies, way.layers != Way::Layers::kInSeries, text_of(way)});
  }
  return trials;
}

/// None for a program whose input vectors and sums do not fit the machine's buffer: `refusal` says why.
std::optional<std::int64_t> time_of(const Module& module, std::string& refusal) {
  try {
    return simulate(program_of(module), module.graph).time_ps;
  } catch (const Error& error) {
    refusal = error.what();
    return std::nullopt;
  }
}

void fastest(Module& module, Context& context) {
  std::optional<std::int64_t> least;
  std::string refusal;
  Module best;
  for (const Trial& trial : trials_of(module, context.duplication)) {
    Context own;
    own.duplication = trial.duplication;
    Module tried = module;
    run_pipeline({duplicate_pass(), place_stationary_pass()}, tried, own);
    const Pipeline series = {lower_stationary_pass()};
    const Pipeline rows = {schedule_pass(), lower_in_rows_pass()};
    run_pipeline(trial.in_rows ? rows : series, tried, own);
    const std::optional<std::int64_t> time = time_of(tried, refusal);
    if (!time || (least && *time >= *least)) continue;
    least = time;
    best = std::move(tried);
    context.chosen = trial.text;
  }
  check(least.has_value(), refusal);
  module = std::move(best);
}

}  // namespace

Pass fastest_pass() { return {"fastest", {Part::kTiles}, Part::kProgram, fastest}; }

}  // namespace cimq::compiler
