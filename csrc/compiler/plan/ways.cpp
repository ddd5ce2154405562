#include "compiler/plan/ways.h"

#include <string_view>

#include "common/error.h"

namespace cimq::compiler {
namespace {

std::string_view text_of(Way::Layers layers) {
  switch (layers) {
    case Way::Layers::kInSeries:
      return "layers in series";
    case Way::Layers::kInRows:
      return "layers overlap by rows";
    case Way::Layers::kStaying:
      return "layers overlap by rows and stay";
  }
  throw Error(message("way ", static_cast<int>(layers), " has no text"));
}

}  // namespace

std::vector<Way> ways_of(CopyRule rule) {
  std::vector<CopyRule> rules = {rule};
  if (rule == CopyRule::kAny) {
    rules = {CopyRule::kNone, CopyRule::kGreedy, CopyRule::kThroughput, CopyRule::kBalanced, CopyRule::kLatency};
  }
  std::vector<Way> ways;
  for (const CopyRule one : rules) {
    ways.push_back({one, Way::Layers::kInSeries});
    ways.push_back({one, Way::Layers::kInRows});
    // Layers overlap where they stay, and a pool that is best for layers in series is not best for them.
    if (one != CopyRule::kNone) ways.push_back({one, Way::Layers::kStaying});
  }
  return ways;
}

std::string text_of(const Way& way) { return message(text_of(way.layers), "; copies: ", name_of(way.rule)); }

}  // namespace cimq::compiler
