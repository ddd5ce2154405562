#include <utility>

#include "common/error.h"
#include "compiler/passes/place.h"

namespace cimq::compiler {
namespace {

void place_in_turn(Module& module, Context& context) {
  const auto* rule = std::get_if<CopyRule>(&context.duplication);
  check(rule != nullptr && *rule == CopyRule::kNone,
        "the closed form has every tile in one crossbar: duplication needs the pipeline 'stationary'");
  const auto& crossbars = module.hardware.resources.crossbars;
  std::vector<LayerPlacement> layers;
  layers.reserve(tiles_of(module).size());
  std::int64_t next = 0;
  for (const TiledLayer& layer : tiles_of(module)) {
    LayerPlacement placement;
    placement.crossbars.reserve(static_cast<std::size_t>(layer.tiling.tiles()));
    for (std::int64_t t = 0; t < layer.tiling.tiles(); ++t, ++next) {
      placement.crossbars.push_back(crossbars ? next % *crossbars : next);
    }
    layers.push_back(std::move(placement));
  }
  module.placement = std::move(layers);
}

}  // namespace

Pass place_in_turn_pass() { return {"place", {Part::kTiles}, Part::kPlacement, place_in_turn}; }

}  // namespace cimq::compiler
