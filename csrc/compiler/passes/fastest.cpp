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
#include "compiler/sim/simulate.h"

namespace cimq::compiler {
namespace {

/// A way to a program.
struct Way {
  Duplication duplication;
  bool in_rows = false;
  std::string text;
};

std::vector<Way> ways_of(const Module& module, const Duplication& duplication) {
  std::vector<Way> ways;
  const auto add = [&ways](const Duplication& copies, std::string_view how) {
    ways.push_back({copies, false, message("layers in series; copies: ", how)});
    ways.push_back({copies, true, message("layers overlap by rows; copies: ", how)});
  };
  const auto* rule = std::get_if<CopyRule>(&duplication);
  if (rule == nullptr) {
    add(duplication, "as given");
    return ways;
  }
  std::vector<CopyRule> rules = {*rule};
  if (*rule == CopyRule::kAny) {
    rules = {CopyRule::kNone, CopyRule::kGreedy, CopyRule::kThroughput, CopyRule::kBalanced, CopyRule::kLatency};
  }
  for (const CopyRule one : rules) {
    add(one, name_of(one));
    if (one == CopyRule::kNone) continue;
    // Layers overlap where they stay, and a pool that is best for layers in series is not best for them.
    const auto staying =
        copies_in_rows(loads_of(module), rows_of_layers(module), module.hardware.resources.crossbars, one);
    if (!staying) continue;
    std::map<std::string, std::int64_t> copies;
    for (std::size_t i = 0; i < staying->size(); ++i) {
      copies[crossbar_of(module.graph.nodes[tiles_of(module)[i].node]).layer_name] = (*staying)[i];
    }
    ways.push_back({copies, true, message("layers overlap by rows and stay; copies: ", name_of(one))});
  }
  return ways;
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
  for (const Way& way : ways_of(module, context.duplication)) {
    Context own;
    own.duplication = way.duplication;
    Module tried = module;
    run_pipeline({duplicate_pass(), place_stationary_pass()}, tried, own);
    const Pipeline series = {lower_stationary_pass()};
    const Pipeline rows = {schedule_pass(), lower_in_rows_pass()};
    run_pipeline(way.in_rows ? rows : series, tried, own);
    const std::optional<std::int64_t> time = time_of(tried, refusal);
    if (!time || (least && *time >= *least)) continue;
    least = time;
    best = std::move(tried);
    context.chosen = way.text;
  }
  check(least.has_value(), refusal);
  module = std::move(best);
}

}  // namespace

Pass fastest_pass() { return {"fastest", {Part::kTiles}, Part::kProgram, fastest}; }

}  // namespace cimq::compiler
