#include "compiler/passes/lower.h"
#include "compiler/passes/program_builder.h"

namespace cimq::compiler {
namespace {

constexpr const char* kGroup = "g";
constexpr const char* kPixel = "p";

void multiply(ProgramBuilder& builder, std::int64_t layer, const LayerPlacement& placement) {
  const Node& node = builder.node(layer);
  const CrossbarLayer& facts = crossbar_of(node);
  const LayerTiling& tiling = builder.tiling(layer);
  const LayerValues values(node);
  const isa::Index repeat = facts.repeats > 1 ? isa::counted(kGroup) : isa::Index{};
  const isa::Index at = facts.invocations > 1 ? isa::counted(kPixel) : isa::Index{};

  builder.quantize_operand(layer);
  builder.loop(kGroup, facts.repeats, [&] {
    for (std::int64_t t = 0; t < tiling.tiles(); ++t) {
      const isa::Index tile{t, {}};
      const isa::Index crossbar{placement.crossbars[static_cast<std::size_t>(t)], {}};
      builder.emit(isa::Write{layer, tile, crossbar, tiling.region(t), builder.weight_of(layer), repeat});
      builder.samples([&] {
        builder.loop(kPixel, facts.invocations, [&] {
          builder.emit(isa::Gather{layer, values.quantized, values.vector, at, repeat});
          builder.emit(isa::Mvm{layer, tile, crossbar, values.vector, values.acc, at, repeat, 0, tiling.digits});
        });
      });
    }
    std::optional<isa::Index> group;
    if (facts.repeats > 1) group = repeat;
    builder.samples([&] { builder.shift_add(layer, std::nullopt, group); });
  });
}

void lower_layer(ProgramBuilder& builder, std::int64_t layer, const LayerPlacement& placement) {
  builder.samples([&] { builder.quantize(layer); });
  if (writes_operand(builder.node(layer).op)) {
    builder.part_samples();
    builder.samples([&] { multiply(builder, layer, placement); });
  } else {
    multiply(builder, layer, placement);
  }
  builder.samples([&] { builder.requantize(layer); });
}

void lower_in_turn(Module& module, Context&) {
  ProgramBuilder builder(module);
  const auto layers = static_cast<std::int64_t>(tiles_of(module).size());
  // Of a batch in front: loops over samples go on from one layer to the next.
  const bool in_front = module.batch > 1;
  for (std::int64_t layer = 0; in_front && layer < layers; ++layer) builder.configure(layer);
  std::int64_t layer = 0;
  for (const Node& node : module.graph.nodes) {
    if (node.crossbar) {
      if (!in_front) builder.configure(layer);
      lower_layer(builder, layer, placement_of(module)[static_cast<std::size_t>(layer)]);
      ++layer;
    } else {
      builder.samples([&] { builder.compute(node); });
    }
  }
  module.program = builder.finish();
}

}  // namespace

Pass lower_in_turn_pass() { return {"lower", {Part::kTiles, Part::kPlacement}, Part::kProgram, lower_in_turn}; }

}  // namespace cimq::compiler
