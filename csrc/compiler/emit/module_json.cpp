#include "compiler/emit/module_json.h"

#include <nlohmann/json.hpp>

#include "compiler/emit/program_jsonl.h"

namespace cimq::compiler {
namespace {

using Line = nlohmann::ordered_json;

Line line_of_node(const Graph& graph, const Node& node) {
  Line inputs = Line::array();
  for (const int input : node.inputs) {
    inputs.push_back(input < 0 ? graph.input_name : graph.nodes[static_cast<std::size_t>(input)].name);
  }
  Line line = {{"part", "graph"}, {"node", node.name}, {"op", name_of(node.op)}, {"inputs", inputs}};
  line["shape"] = node.shape;
  if (node.crossbar) {
    const CrossbarLayer& layer = *node.crossbar;
    line["layer"] = layer.layer_name;
    line["weight_bits"] = layer.weight_bits;
    line["act_bits"] = layer.act_bits;
    if (layer.machine.adc_bits) line["adc_bits"] = *layer.machine.adc_bits;
    if (layer.machine.mapping) line["mapping"] = name_of(*layer.machine.mapping);
    line["outputs"] = layer.outputs;
    line["inputs_per_output"] = layer.inputs_per_output;
    line["invocations"] = layer.invocations;
    line["repeats"] = layer.repeats;
  }
  return line;
}

Line line_of_tiling(const std::string& layer, const LayerTiling& tiling) {
  Line line = {{"part", name_of(Part::kTiles)}, {"layer", layer}};
  line["rows"] = tiling.rows;
  line["columns"] = tiling.columns;
  line["slices"] = tiling.slices;
  line["digits"] = tiling.digits;
  line["row_tiles"] = tiling.row_tiles;
  line["column_tiles"] = tiling.column_tiles;
  return line;
}

Line line_of_copies(const std::string& layer, std::int64_t copies) {
  return {{"part", name_of(Part::kCopies)}, {"layer", layer}, {"copies", copies}};
}

Line line_of_row_set(const Graph& graph, const RowSet& set) {
  const char* const kinds[] = {"quantize", "multiply", "compute"};
  return {{"part", name_of(Part::kSchedule)},
          {kinds[static_cast<std::size_t>(set.kind)], graph.nodes[set.node].name},
          {"rows", {set.first, set.first + set.count}}};
}

Line line_of_placement(const std::string& layer, const LayerPlacement& placement) {
  Line line = {{"part", name_of(Part::kPlacement)}, {"layer", layer}};
  line["resident"] = placement.resident;
  if (placement.resident > 0) line["first"] = placement.first;
  if (placement.copies > 1) line["copies"] = placement.copies;
  line["crossbars"] = placement.crossbars;
  return line;
}

}  // namespace

std::string write_module(const Module& module) {
  std::string text;
  const auto put = [&text](const Line& line) { text += line.dump() + "\n"; };
  for (const Node& node : module.graph.nodes) put(line_of_node(module.graph, node));
  if (module.tiles) {
    const auto layer_name = [&module](std::size_t layer) -> const std::string& {
      return crossbar_of(module.graph.nodes[tiles_of(module)[layer].node]).layer_name;
    };
    for (std::size_t i = 0; i < module.tiles->size(); ++i)
      put(line_of_tiling(layer_name(i), (*module.tiles)[i].tiling));
    for (std::size_t i = 0; module.copies && i < module.copies->size(); ++i) {
      put(line_of_copies(layer_name(i), (*module.copies)[i]));
    }
    for (std::size_t i = 0; module.placement && i < module.placement->size(); ++i) {
      put(line_of_placement(layer_name(i), (*module.placement)[i]));
    }
  }
  if (module.schedule) {
    for (const RowSet& set : *module.schedule) put(line_of_row_set(module.graph, set));
  }
  if (module.program) text += write_program(*module.program);
  return text;
}

}  // namespace cimq::compiler
