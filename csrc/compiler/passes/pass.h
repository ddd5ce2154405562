// A pass: one step from a network to a program. Passes are listed in pipelines (pipeline.h); what they need of one
// another is declared and checked, so that a list in the wrong order is refused and does not compute something else.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "compiler/ir/module.h"
#include "compiler/plan/choose.h"

namespace cimq::compiler {

/// Copies of layers by their names, one of each that is not named; or how to choose them.
using Duplication = std::variant<CopyRule, std::map<std::string, std::int64_t>>;

/// What passes share beside the module.
struct Context {
  std::string dump_after = {};  ///< name of a pass; empty: none
  std::string dump = {};        ///< the module after that pass, as text
  Duplication duplication = CopyRule::kNone;
  std::int64_t batch = 1;   ///< samples that a program computes together: a tile that is written serves all of them
  std::string chosen = {};  ///< what a pass that tries several ways has taken, in words
};

struct Pass {
  std::string_view name;
  std::vector<Part> needs;    ///< parts of the module that must be there
  std::optional<Part> gives;  ///< the part that it makes (those after it are then made anew); a check makes none
  void (*run)(Module& module, Context& context);
};

using Pipeline = std::vector<Pass>;

/// Runs the passes one after the other. Throws Error naming the pass for a part that it needs and nobody has made, and
/// for a `dump_after` that names no pass of the pipeline.
void run_pipeline(const Pipeline& pipeline, Module& module, Context& context);

}  // namespace cimq::compiler
