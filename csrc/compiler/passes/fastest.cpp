#include "compiler/passes/fastest.h"

#include <optional>
#include <utility>
#include <vector>

#include "common/error.h"
#include "compiler/passes/duplicate.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/place.h"
#include "compiler/passes/schedule.h"
#include "compiler/sim/simulate.h"

namespace cimq::compiler {
namespace {

std::vector<Duplication> ways(const Duplication& duplication) {
  const auto* rule = std::get_if<CopyRule>(&duplication);
  if (rule == nullptr || *rule != CopyRule::kAny) return {duplication};
  return {CopyRule::kNone, CopyRule::kGreedy, CopyRule::kThroughput, CopyRule::kLatency};
}

std::string text_of(const Duplication& duplication, bool in_rows) {
  const auto* rule = std::get_if<CopyRule>(&duplication);
  return message(in_rows ? "layers overlap by rows" : "layers in series",
                 "; copies: ", rule == nullptr ? "as given" : name_of(*rule));
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
  for (const Duplication& duplication : ways(context.duplication)) {
    Context own;
    own.duplication = duplication;
    Module placed = module;
    run_pipeline({duplicate_pass(), place_stationary_pass()}, placed, own);
    for (const bool in_rows : {false, true}) {
      Module tried = placed;
      const Pipeline series = {lower_stationary_pass()};
      const Pipeline rows = {schedule_pass(), lower_in_rows_pass()};
      run_pipeline(in_rows ? rows : series, tried, own);
      const std::optional<std::int64_t> time = time_of(tried, refusal);
      if (!time || (least && *time >= *least)) continue;
      least = time;
      best = std::move(tried);
      context.chosen = text_of(duplication, in_rows);
    }
  }
  check(least.has_value(), refusal);
  module = std::move(best);
}

}  // namespace

Pass fastest_pass() { return {"fastest", {Part::kTiles}, Part::kProgram, fastest}; }

}  // namespace cimq::compiler
