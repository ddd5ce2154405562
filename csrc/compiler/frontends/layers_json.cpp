#include "compiler/frontends/layers_json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <variant>

#include "compiler/frontends/layer_machine_json.h"
#include "compiler/frontends/strict_json.h"
#include "compiler/ir/operators.h"

namespace cimq::compiler {
namespace {

constexpr int kMajor = 1;
template <typename... Alternatives>
struct Overloaded : Alternatives... {
  using Alternatives::operator()...;
};

const Operator& operator_named(const std::string& name, const std::string& where) {
  const Operator* found = find_operator(name);
  check(found != nullptr, where, ": unknown op '", shown(name), "'");
  return *found;
}

/// Every dimension positive and the product within kMaxElements.
void check_size(const Shape& shape, const std::string& where) {
  std::int64_t count = 1;
  check(shape.size() <= kMaxRank, where, ": a shape has at most ", kMaxRank, " dimensions");
  for (const std::int64_t dim : shape) {
    check(dim >= 1 && count <= kMaxElements / dim, where, ": a value has 1 to ", kMaxElements, " elements per sample");
    count *= dim;
  }
}

double number_of(ObjectReader& attrs, const Attribute& attribute) {
  const double value = attrs.number(attribute.key);
  check(std::abs(value) <= std::numeric_limits<float>::max(), attrs.where(), ": ", attribute.key, " must fit float32");
  check(value >= attribute.smallest && value <= attribute.largest, attrs.where(), ": ", attribute.key, " must be from ",
        attribute.smallest, " to ", attribute.largest, ", got ", value);
  return value;
}

float float_of(ObjectReader& attrs, const Attribute& attribute) {
  return static_cast<float>(number_of(attrs, attribute));
}

void read_attribute(Node& node, const Attribute& attribute, ObjectReader& attrs) {
  const char* const key = attribute.key;
  const std::int64_t lowest = attribute.lowest;
  const std::int64_t highest = attribute.highest;
  std::visit(Overloaded{
                 [&](bool& (*place)(Node&)) { place(node) = attrs.boolean(key); },
                 [&](float& (*place)(Node&)) { place(node) = float_of(attrs, attribute); },
                 [&](double& (*place)(Node&)) { place(node) = number_of(attrs, attribute); },
                 [&](std::optional<float>& (*place)(Node&)) { place(node) = float_of(attrs, attribute); },
                 [&](std::int64_t& (*place)(Node&)) { place(node) = attrs.integer(key, lowest, highest); },
                 [&](Shape& (*place)(Node&)) { place(node) = attrs.integers(key, lowest, highest); },
                 [&](std::vector<std::int64_t*> (*place)(Node&)) {
                   const std::vector<std::int64_t*> entries = place(node);
                   const auto values = attrs.integers(key, lowest, highest, static_cast<int>(entries.size()));
                   for (std::size_t i = 0; i < entries.size(); ++i) *entries[i] = values[i];
                 },
             },
             attribute.place);
}

/// Whether a key is left out: one of a later format, or null for what may have no value.
bool is_left_out(const Attribute& attribute, const ObjectReader& attrs) {
  if (std::holds_alternative<std::optional<float>& (*)(Node&)>(attribute.place)) return !attrs.given(attribute.key);
  return !attribute.required && !attrs.has(attribute.key);
}

void read_attrs(Node& node, const Operator& row, const nlohmann::json& json, const std::string& where) {
  ObjectReader attrs(json, where + " attrs");
  for (const auto& [key, unused] : json.items()) {
    const auto known = [&key = key](const Attribute& attribute) { return key == attribute.key; };
    check(std::ranges::any_of(row.attributes, known), attrs.where(), ": unknown key '", shown(key), "'");
  }
  for (const Attribute& attribute : row.attributes) {
    if (!is_left_out(attribute, attrs)) read_attribute(node, attribute, attrs);
  }
  if (row.complete != nullptr) row.complete(node);
}

void read_tensors(Node& node, const Operator& row, const nlohmann::json& json, const std::string& where) {
  ObjectReader tensors(json, where + " tensors");
  for (const char* role : row.tensors) node.tensors[role] = tensors.text(role);
  for (const char* role : row.optional_tensors) {
    if (tensors.has(role)) node.tensors[role] = tensors.text(role);
  }
  tensors.finish();
}

CrossbarLayer read_crossbar(ObjectReader& reader) {
  CrossbarLayer layer;
  layer.layer_name = reader.text("layer_name");
  layer.layer_index = static_cast<std::uint32_t>(reader.integer("layer_index", 0, kMaxNodes));
  layer.weight_bits = static_cast<int>(reader.integer("weight_bits", 1, 8));
  layer.act_bits = static_cast<int>(reader.integer("act_bits", 1, 8));
  layer.act_signed = reader.boolean("act_signed");
  if (reader.has("act_zero")) {  // since version 1.1
    const std::int64_t lowest = layer.act_signed ? 0 : 1 - (std::int64_t{1} << layer.act_bits);
    layer.act_zero = static_cast<int>(reader.integer("act_zero", lowest, 0));
  }
  layer.machine = read_machine(reader);  // since version 1.5
  layer.outputs = reader.integer("outputs", 1, kMaxElements);
  layer.inputs_per_output = reader.integer("inputs_per_output", 1, kMaxElements);
  layer.invocations = reader.integer("invocations", 1, kMaxElements);
  layer.repeats = reader.integer("repeats", 1, kMaxElements);
  return layer;
}

/// The layer's facts follow from its geometry; a file in which they differ would be costed wrongly.
void check_crossbar(const Graph& graph, const Node& node, const std::string& where) {
  const CrossbarLayer& layer = crossbar_of(node);
  const Shape& in = graph.shape_of(node.inputs[0]);
  const Window& window = node.window;
  const bool conv = is_conv(node.op);
  const std::int64_t outputs = conv ? node.shape[0] / window.groups : node.shape.back();
  const std::int64_t inputs = conv ? in[0] / window.groups * window.kernel[0] * window.kernel[1] : in.back();
  const std::int64_t repeats = conv ? window.groups : writes_operand(node.op) ? in[0] : 1;
  const std::int64_t invocations = conv ? node.shape[1] * node.shape[2] : elements(in) / in.back() / repeats;
  const auto same = [&](const char* key, std::int64_t stated, std::int64_t computed) {
    check(stated == computed, where, ": ", key, " is ", stated, " but its geometry gives ", computed);
  };
  same("outputs", layer.outputs, outputs);
  same("inputs_per_output", layer.inputs_per_output, inputs);
  same("invocations", layer.invocations, invocations);
  same("repeats", layer.repeats, repeats);
}

}  // namespace

Graph read_layers(std::string_view text) {
  const nlohmann::json json = parse_strict(text, "layers.json");
  ObjectReader file(json, "layers.json");
  check_schema(file, "cimq.layers", kMajor);
  Graph graph;
  ObjectReader input(file.object("input"), "layers.json: input");
  graph.input_name = input.text("name");
  graph.input_shape = input.integers("shape", 1, kMaxElements);
  check(input.text("dtype", 16) == "float32", "layers.json: input: dtype must be 'float32'");
  check_size(graph.input_shape, "layers.json: input");
  if (file.has("chip")) {
    ObjectReader chip(file.object("chip"), "layers.json: chip");
    graph.seed = static_cast<std::uint64_t>(chip.integer("seed", 0, INT64_MAX));
    graph.chip = static_cast<std::uint32_t>(chip.integer("chip", 0, UINT32_MAX));
  }

  std::unordered_map<std::string, int> places = {{graph.input_name, -1}};
  std::set<std::string> layer_names;
  std::set<std::uint32_t> layer_indices;
  const nlohmann::json& nodes = file.array("nodes", kMaxNodes);
  graph.nodes.reserve(nodes.size());
  for (const auto& entry : nodes) {
    ObjectReader unnamed(entry, "layers.json: a node");
    Node node;
    node.name = unnamed.text("name");
    const std::string where = message("layers.json: node '", shown(node.name), "'");
    ObjectReader reader(entry, where);
    reader.text("name");
    const Operator& row = operator_named(reader.text("op"), where);
    node.op = row.kind;
    node.shape = reader.integers("shape", 1, kMaxElements);
    check_size(node.shape, where);
    for (const std::string& name : reader.texts("inputs", kMaxInputs)) {
      const auto found = places.find(name);
      check(found != places.end(), where, ": its input '", shown(name), "' is no earlier node");
      node.inputs.push_back(found->second);
    }
    check(node.inputs.size() >= row.min_inputs && node.inputs.size() <= row.max_inputs, where, ": takes ",
          row.min_inputs, row.max_inputs == row.min_inputs ? "" : " or more", " inputs, got ", node.inputs.size());
    read_attrs(node, row, reader.object("attrs"), where);
    read_tensors(node, row, reader.object("tensors"), where);
    if (is_crossbar(node.op)) {
      node.crossbar = read_crossbar(reader);
      check(layer_names.insert(node.crossbar->layer_name).second, where, ": layer_name '",
            shown(node.crossbar->layer_name), "' is used twice");
      check(layer_indices.insert(node.crossbar->layer_index).second, where, ": layer_index ",
            node.crossbar->layer_index, " is used twice");
    }
    reader.finish();
    check(infer_shape(graph, node) == node.shape, where, ": its shape does not follow from its inputs and attributes");
    if (is_crossbar(node.op)) check_crossbar(graph, node, where);
    const int place = static_cast<int>(graph.nodes.size());
    check(places.emplace(node.name, place).second, where, ": the name is used twice");
    graph.nodes.push_back(std::move(node));
  }
  const auto output = places.find(file.text("output"));
  check(output != places.end() && output->second >= 0, "layers.json: output must name a node");
  graph.output = output->second;
  file.finish();
  return graph;
}

}  // namespace cimq::compiler
