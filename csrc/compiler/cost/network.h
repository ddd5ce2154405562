// Closed-form latency (tier1.h) of the layers of a network.
#pragma once

#include <cstdint>

#include "common/hardware.h"
#include "compiler/cost/tier1.h"
#include "compiler/ir/graph.h"

namespace cimq::compiler {

/// The layer as the latency model takes it.
LayerShape latency_shape(const CrossbarLayer& layer);

struct NetworkCost {
  std::int64_t writes = 0, mvms = 0;
  std::int64_t time_ps = 0;
};

/// Sums over all crossbar layers for a batch of samples: weights are written once for all of them, what crossbars hold
/// of values for each. Throws Error beyond 63 bits.
NetworkCost closed_form(const Graph& graph, const Hardware& hardware, std::int64_t batch = 1);

}  // namespace cimq::compiler
