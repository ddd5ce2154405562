#include "compiler/passes/lower.h"

#include <utility>

#include "compiler/cost/network.h"

namespace cimq::compiler {
namespace {

constexpr const char* kGroup = "g";
constexpr const char* kPixel = "p";

class Lowering {
 public:
  explicit Lowering(const Module& module) : module_(module), graph_(module.graph) {}

  Program run() {
    program_.hardware = module_.hardware;
    program_.input = graph_.input_name;
    program_.output = graph_.nodes[static_cast<std::size_t>(graph_.output)].name;
    std::size_t layer = 0;
    for (const Node& node : graph_.nodes) {
      if (node.crossbar) {
        lower_crossbar(node, layer++);
      } else {
        emit(isa::Vector{std::string(name_of(node.op)), input_names(node), node.name});
      }
    }
    const NetworkCost cost = closed_form(graph_, module_.hardware);
    program_.counts = {cost.writes, cost.mvms};
    return std::move(program_);
  }

 private:
  void emit(isa::Instruction instruction) { program_.code.push_back(std::move(instruction)); }

  std::string name_of_value(int value) const {
    return value < 0 ? graph_.input_name : graph_.nodes[static_cast<std::size_t>(value)].name;
  }

  std::vector<std::string> input_names(const Node& node) const {
    std::vector<std::string> names;
    names.reserve(node.inputs.size());
    for (const int input : node.inputs) names.push_back(name_of_value(input));
    return names;
  }

  void lower_crossbar(const Node& node, std::size_t number) {
    const CrossbarLayer& facts = *node.crossbar;
    const LayerTiling& tiling = (*module_.tiles)[number].tiling;
    const LayerPlacement& placement = (*module_.placement)[number];
    const auto layer = static_cast<std::int64_t>(number);
    const std::string quantized = node.name + ".x_q";
    const std::string vector = node.name + ".vector";
    const std::string acc = node.name + ".acc";
    const std::string y = node.name + ".y";
    const bool grouped = facts.repeats > 1;
    const bool many = facts.invocations > 1;
    const isa::Index repeat = grouped ? isa::counted(kGroup) : isa::Index{};
    const isa::Index at = many ? isa::counted(kPixel) : isa::Index{};

    emit(configuration(node, layer, tiling));
    const std::int64_t magnitudes = std::int64_t{1} << (facts.act_bits - (facts.act_signed ? 1 : 0));
    emit(isa::Quantize{layer, name_of_value(node.inputs[0]), quantized, node.tensors.at("x_scale"),
                       facts.act_signed ? -magnitudes : 0, magnitudes - 1, facts.act_zero});
    if (grouped) emit(isa::Loop{kGroup, facts.repeats});
    for (std::int64_t t = 0; t < tiling.tiles(); ++t) {
      const isa::Index tile{t, {}};
      const isa::Index crossbar{placement.crossbars[static_cast<std::size_t>(t)], {}};
      emit(isa::Write{layer, tile, crossbar, tiling.region(t), node.tensors.at("weight"), repeat});
      if (many) emit(isa::Loop{kPixel, facts.invocations});
      emit(isa::Gather{layer, quantized, vector, at, repeat});
      emit(isa::Mvm{layer, tile, crossbar, vector, acc, at, repeat, 0, tiling.digits});
      if (many) emit(isa::End{});
    }
    std::optional<isa::Index> group;
    if (grouped) group = repeat;
    emit(isa::ShiftAdd{layer, acc, y, std::nullopt, group, shifts_of(tiling)});
    if (grouped) emit(isa::End{});
    emit(isa::Requantize{layer, y, node.name, node.tensors.at("multiplier"), node.tensors.at("bias"), facts.act_zero,
                         facts.act_zero == 0 ? "" : node.tensors.at("weight")});
  }

  static isa::Configure configuration(const Node& node, std::int64_t layer, const LayerTiling& tiling) {
    const CrossbarLayer& facts = *node.crossbar;
    isa::Configure i;
    i.layer = layer;
    i.node = node.name;
    i.name = facts.layer_name;
    i.weight_bits = facts.weight_bits;
    i.act_bits = facts.act_bits;
    i.act_signed = facts.act_signed;
    i.outputs = facts.outputs;
    i.inputs = facts.inputs_per_output;
    i.invocations = facts.invocations;
    i.repeats = facts.repeats;
    i.slices = tiling.slices;
    i.digits = tiling.digits;
    i.row_tiles = tiling.row_tiles;
    i.column_tiles = tiling.column_tiles;
    return i;
  }

  std::vector<std::int64_t> shifts_of(const LayerTiling& tiling) const {
    std::vector<std::int64_t> shifts;
    shifts.reserve(static_cast<std::size_t>(tiling.slices));
    for (int s = 0; s < tiling.slices; ++s) shifts.push_back(std::int64_t{module_.hardware.cell_bits} * s);
    return shifts;
  }

  const Module& module_;
  const Graph& graph_;
  Program program_;
};

void lower_in_turn(Module& module, Context&) { module.program = Lowering(module).run(); }

}  // namespace

Pass lower_in_turn_pass() { return {"lower", {Part::kTiles, Part::kPlacement}, Part::kProgram, lower_in_turn}; }

}  // namespace cimq::compiler
