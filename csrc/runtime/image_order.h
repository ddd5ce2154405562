// In which order the executor keeps images between steps: the network as it is run.
#pragma once

#include <vector>

#include "common/hardware.h"
#include "compiler/ir/graph.h"

namespace cimq::runtime {

/// A network with the same results, in which some images are [height, width, channels].
struct OrderedNetwork {
  compiler::Graph graph;
  /// [node of `graph`] the node of the network that it is; -1: brings a value into another order.
  std::vector<int> origin;
  /// [node of `graph`] computed by make_channels_last_step from the network's own node, and not by make_step.
  std::vector<bool> special;
};

/// Convolutions that are faster so take and give channel-last images; what lies between them and does not mind (single
/// values in, single values out; slices, borders, concatenations, maxima) stays in that order, anything else gets
/// channels first, as does the result of the network.
OrderedNetwork order_images(const compiler::Graph& network, const Hardware& hardware);

}  // namespace cimq::runtime
