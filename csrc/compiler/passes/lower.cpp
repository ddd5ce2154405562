#include "compiler/passes/lower.h"

#include <utility>

#include "common/error.h"

namespace cimq::compiler {
namespace {

constexpr const char* kGroup = "g";
constexpr const char* kPixel = "p";

class Lowering {
 public:
  Lowering(const Graph& graph, const Hardware& hardware) : graph_(graph) { result_.program.hardware = hardware; }

  CompiledProgram run() {
    Program& program = result_.program;
    program.input = graph_.input_name;
    program.output = graph_.nodes[static_cast<std::size_t>(graph_.output)].name;
    for (const Node& node : graph_.nodes) {
      if (node.crossbar) {
        lower_crossbar(node);
      } else {
        emit(isa::Vector{std::string(name_of(node.op)), input_names(node), node.name});
      }
    }
    return std::move(result_);
  }

 private:
  void emit(isa::Instruction instruction) { result_.program.code.push_back(std::move(instruction)); }

  std::string name_of_value(int value) const {
    return value < 0 ? graph_.input_name : graph_.nodes[static_cast<std::size_t>(value)].name;
  }

  std::vector<std::string> input_names(const Node& node) const {
    std::vector<std::string> names;
    names.reserve(node.inputs.size());
    for (const int input : node.inputs) names.push_back(name_of_value(input));
    return names;
  }

  void lower_crossbar(const Node& node) {
    const Hardware& hardware = result_.program.hardware;
    const CrossbarLayer& facts = crossbar_of(node);
    const auto layer = static_cast<std::int64_t>(result_.layers.size());
    CompiledLayer compiled{facts.layer_name,
                           node.name,
                           node.op,
                           facts,
                           tile_layer(hardware, facts),
                           tier1(hardware, latency_shape(facts), facts.weight_bits, facts.act_bits)};
    LayerTiling& tiling = compiled.tiling;
    place(tiling);

    const std::string quantized = node.name + ".x_q";
    const std::string vector = node.name + ".vector";
    const std::string acc = node.name + ".acc";
    const std::string y = node.name + ".y";
    const std::string repeat = facts.repeats > 1 ? kGroup : "";
    const std::string at = facts.invocations > 1 ? kPixel : "";
    emit(isa::Configure{layer, node.name, facts, tiling.slices, tiling.digits, tiling.row_tiles, tiling.column_tiles});
    const std::int64_t magnitudes = std::int64_t{1} << (facts.act_bits - (facts.act_signed ? 1 : 0));
    emit(isa::Quantize{layer, name_of_value(node.inputs[0]), quantized, node.tensors.at("x_scale"),
                       facts.act_signed ? -magnitudes : 0, magnitudes - 1, facts.act_zero});
    if (!repeat.empty()) emit(isa::Loop{repeat, facts.repeats});
    for (const Tile& tile : tiling.tiles) {
      emit(isa::Write{layer, tile, node.tensors.at("weight"), repeat});
      if (!at.empty()) emit(isa::Loop{at, facts.invocations});
      emit(isa::Gather{layer, quantized, vector, at, repeat});
      emit(isa::Mvm{layer, tile.number, tile.crossbar, vector, acc, at, repeat, 0, tiling.digits});
      if (!at.empty()) emit(isa::End{});
    }
    std::vector<std::int64_t> shifts;
    shifts.reserve(static_cast<std::size_t>(tiling.slices));
    for (int s = 0; s < tiling.slices; ++s) shifts.push_back(std::int64_t{hardware.cell_bits} * s);
    emit(isa::ShiftAdd{layer, acc, y, repeat, std::move(shifts)});
    if (!repeat.empty()) emit(isa::End{});
    emit(isa::Requantize{layer, y, node.name, node.tensors.at("multiplier"), node.tensors.at("bias"), facts.act_zero,
                         facts.act_zero == 0 ? "" : node.tensors.at("weight")});

    Program& program = result_.program;
    const std::string what = "layer '" + facts.layer_name + "'";
    program.writes = checked_sum(program.writes, compiled.cost.writes, what);
    program.mvms = checked_sum(program.mvms, compiled.cost.mvms, what);
    result_.time_ps = checked_sum(result_.time_ps, compiled.cost.time_ps(), what);
    tiles_ += static_cast<std::int64_t>(tiling.tiles.size());
    check(tiles_ <= kMaxTiles, "the network needs more than ", kMaxTiles, " tiles");
    result_.layers.push_back(std::move(compiled));
  }

  /// Crossbars in turn; with an unlimited number every tile has its own.
  void place(LayerTiling& tiling) {
    const auto& crossbars = result_.program.hardware.resources.crossbars;
    for (Tile& tile : tiling.tiles) tile.crossbar = crossbars ? next_++ % *crossbars : next_++;
  }

  const Graph& graph_;
  CompiledProgram result_;
  std::int64_t next_ = 0;
  std::int64_t tiles_ = 0;
};

}  // namespace

CompiledProgram compile_graph(const Graph& graph, const Hardware& hardware) {
  hardware.validate();
  return Lowering(graph, hardware).run();
}

}  // namespace cimq::compiler
