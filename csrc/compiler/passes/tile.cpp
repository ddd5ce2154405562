#include "compiler/passes/tile.h"

#include <utility>

#include "common/error.h"
#include "compiler/cost/network.h"
#include "compiler/ir/limits.h"

namespace cimq::compiler {
namespace {

void tile_network(Module& module, Context&) {
  std::vector<TiledLayer> layers;
  std::int64_t tiles = 0;
  for (std::size_t i = 0; i < module.graph.nodes.size(); ++i) {
    const Node& node = module.graph.nodes[i];
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    const Hardware hardware = hardware_of(module.hardware, layer);
    const std::int64_t counted = tile_count(hardware, latency_shape(layer), layer.weight_bits);
    layers.push_back({i, tile_layer(module.hardware, layer)});
    const std::int64_t own = layers.back().tiling.tiles();
    // The closed form counts the same tiles in its own way: a difference would be a fault here or there.
    check(own == counted, "layer '", layer.layer_name, "': ", own, " tiles laid out, ", counted, " counted");
    tiles += own;
    check(tiles <= kMaxTiles, "the network needs more than ", kMaxTiles, " tiles");
  }
  module.tiles = std::move(layers);
}

}  // namespace

Pass tile_pass() { return {"tile", {}, Part::kTiles, tile_network}; }

}  // namespace cimq::compiler
