#include "compiler/sim/moment.h"

#include <limits>

#include "common/error.h"

namespace cimq::compiler::sim {

Moment Chains::change(const Moment& at, std::int32_t layer) {
  if (at.time_ps == 0) return {0, layer, -1, {}};  // nothing came before
  check(links_.size() < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
        "simulation: the chain of instructions changes between layers more than 2^31 times");
  links_.push_back({at.layer, at.before, at.here});
  return {at.time_ps, layer, static_cast<std::int32_t>(links_.size()) - 1, {}};
}

std::vector<CauseTimes> Chains::along(const Moment& end, std::size_t layers) const {
  std::vector<CauseTimes> times(layers + 1);
  Link link{end.layer, end.before, end.here};
  while (true) {
    CauseTimes& sum = times[link.layer == kBetweenLayers ? layers : static_cast<std::size_t>(link.layer)];
    for (std::size_t cause = 0; cause < kCauses; ++cause) sum.ps[cause] += link.here.ps[cause];
    if (link.before < 0) return times;
    link = links_[static_cast<std::size_t>(link.before)];
  }
}

void Chains::refuse(std::int64_t time_ps, std::int64_t more_ps) {
  throw Error(message("simulation: the time in ps exceeds 63 bits (", time_ps, " + ", more_ps, ")"));
}

}  // namespace cimq::compiler::sim
