#include "compiler/passes/layer_lowering.h"
#include "compiler/passes/lower.h"

namespace cimq::compiler {
namespace {

void lower_stationary(Module& module, Context&) {
  ProgramBuilder builder(module);
  std::vector<LayerLowering> layers = lowerings_of(builder, module);
  for (LayerLowering& layer : layers) layer.setup();
  builder.emit(isa::Ready{});
  std::size_t next = 0;
  for (const Node& node : module.graph.nodes) {
    if (node.crossbar) {
      LayerLowering& layer = layers[next++];
      layer.quantize(std::nullopt);
      layer.multiply();
      layer.requantize(std::nullopt);
    } else {
      builder.samples([&] { builder.compute(node); });
    }
  }
  module.program = builder.finish();
}

}  // namespace

Pass lower_stationary_pass() {
  return {"lower_stationary", {Part::kTiles, Part::kPlacement}, Part::kProgram, lower_stationary};
}

}  // namespace cimq::compiler
