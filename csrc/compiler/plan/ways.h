// The ways to a program that the pipeline "pipelined" compares.
#pragma once

#include <string>
#include <vector>

#include "compiler/plan/choose.h"

namespace cimq::compiler {

/// Copies by a rule, and what is made of them.
struct Way {
  enum class Layers {
    kInSeries,
    kInRows,   ///< with the copies and the placement that are best in series
    kStaying,  ///< in rows, with copies for layers that all stay
  };
  CopyRule rule = CopyRule::kNone;
  Layers layers = Layers::kInSeries;
};

/// Those of a rule, in the order in which they are tried; of kAny those of every rule.
std::vector<Way> ways_of(CopyRule rule);

/// In words.
std::string text_of(const Way& way);

}  // namespace cimq::compiler
