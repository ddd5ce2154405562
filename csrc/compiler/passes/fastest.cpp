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

void fastest(Module& module, Context& context) {
  std::optional<std::int64_t> least;
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
      const std::int64_t time = simulate(program_of(tried)).time_ps;
      if (least && time >= *least) continue;
      least = time;
      best = std::move(tried);
      context.chosen = text_of(duplication, in_rows);
    }
  }
  module = std::move(best);
}

}  // namespace

Pass fastest_pass() { return {"fastest", {Part::kTiles}, Part::kProgram, fastest}; }

}  // namespace cimq::compiler
