#include "compiler/frontends/layers_json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "compiler/frontends/strict_json.h"

namespace cimq::compiler {
namespace {

constexpr int kMajor = 1;
constexpr std::size_t kMaxInputs = 256;
constexpr std::size_t kMaxRank = 8;

struct OpRule {
  OpKind op;
  std::size_t min_inputs, max_inputs;
  std::vector<std::string> tensors;                // required roles
  std::vector<std::string> optional_tensors = {};  // allowed roles
};

const std::vector<OpRule>& rules() {
  static const std::vector<std::string> kCrossbar = {"weight", "x_scale", "multiplier", "bias"};
  static const std::vector<std::string> kAdc = {"adc_lo", "adc_lsb"};
  static const std::vector<OpRule> kTable = {
      {OpKind::kCrossbarConv2d, 1, 1, kCrossbar, kAdc},
      {OpKind::kCrossbarLinear, 1, 1, kCrossbar, kAdc},
      {OpKind::kConv2dF32, 1, 1, {"weight"}, {"bias"}},
      {OpKind::kLinearF32, 1, 1, {"weight"}, {"bias"}},
      {OpKind::kRelu, 1, 1, {}},
      {OpKind::kClamp, 1, 1, {}},
      {OpKind::kMaxPool2d, 1, 1, {}},
      {OpKind::kAvgPool2d, 1, 1, {}},
      {OpKind::kAdd, 2, 2, {}},
      {OpKind::kMul, 2, 2, {}},
      {OpKind::kSigmoid, 1, 1, {}},
      {OpKind::kSilu, 1, 1, {}},
      {OpKind::kHardsigmoid, 1, 1, {}},
      {OpKind::kHardswish, 1, 1, {}},
      {OpKind::kFlatten, 1, 1, {}},
      {OpKind::kReshape, 1, 1, {}},
      {OpKind::kSlice, 1, 1, {}},
      {OpKind::kPad, 1, 1, {}},
      {OpKind::kCat, 1, kMaxInputs, {}},
      {OpKind::kAffine, 1, 1, {"scale", "shift"}},
  };
  return kTable;
}

const OpRule& rule_of(const std::string& op, const std::string& where) {
  for (const OpRule& rule : rules()) {
    if (name_of(rule.op) == op) return rule;
  }
  throw Error(message(where, ": unknown op '", shown(op), "'"));
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

std::array<std::int64_t, 2> pair_of(ObjectReader& attrs, const char* key, std::int64_t lo) {
  const auto values = attrs.integers(key, lo, kMaxExtent, 2);
  return {values[0], values[1]};
}

float float_of(ObjectReader& attrs, const char* key) {
  const double value = attrs.number(key);
  check(std::abs(value) <= std::numeric_limits<float>::max(), attrs.where(), ": ", key, " must fit float32");
  return static_cast<float>(value);
}

void read_conv(Node& node, ObjectReader& attrs) {
  Window& window = node.window;
  window.kernel = pair_of(attrs, "kernel", 1);
  window.stride = pair_of(attrs, "stride", 1);
  window.dilation = pair_of(attrs, "dilation", 1);
  const auto padding = attrs.integers("padding", 0, kMaxExtent, 4);  // left, right, top, bottom
  window.pad_left = padding[0];
  window.pad_right = padding[1];
  window.pad_top = padding[2];
  window.pad_bottom = padding[3];
  window.groups = attrs.integer("groups", 1, kMaxExtent);
}

void read_pool(Node& node, ObjectReader& attrs) {
  Window& window = node.window;
  window.kernel = pair_of(attrs, "kernel", 1);
  window.stride = pair_of(attrs, "stride", 1);
  const auto padding = pair_of(attrs, "padding", 0);  // height, width
  window.pad_top = window.pad_bottom = padding[0];
  window.pad_left = window.pad_right = padding[1];
  if (node.op == OpKind::kMaxPool2d) window.dilation = pair_of(attrs, "dilation", 1);
  if (node.op == OpKind::kAvgPool2d) window.count_include_pad = attrs.boolean("count_include_pad");
}

void read_clamp(Node& node, ObjectReader& attrs) {
  if (attrs.given("min")) node.clamp_min = float_of(attrs, "min");
  if (attrs.given("max")) node.clamp_max = float_of(attrs, "max");
  check(node.clamp_min || node.clamp_max, attrs.where(), ": needs min or max");
}

void read_attrs(Node& node, const nlohmann::json& json, const std::string& where) {
  ObjectReader attrs(json, where + " attrs");
  switch (node.op) {
    case OpKind::kCrossbarConv2d:
    case OpKind::kConv2dF32:
      read_conv(node, attrs);
      break;
    case OpKind::kMaxPool2d:
    case OpKind::kAvgPool2d:
      read_pool(node, attrs);
      break;
    case OpKind::kClamp:
      read_clamp(node, attrs);
      return;  // min and max may be null or absent: nothing else is looked for
    case OpKind::kSlice:
      node.slice_start = attrs.integers("start", 0, kMaxElements);
      node.slice_stop = attrs.integers("stop", 1, kMaxElements);
      node.slice_step = attrs.integers("step", 1, kMaxElements);
      break;
    case OpKind::kPad:
      node.pad_before = attrs.integers("before", 0, kMaxExtent);
      node.pad_after = attrs.integers("after", 0, kMaxExtent);
      node.pad_value = float_of(attrs, "value");
      break;
    case OpKind::kCat:
      node.dim = attrs.integer("dim", 0, kMaxRank);
      break;
    default:
      break;
  }
  attrs.finish();
}

void read_tensors(Node& node, const OpRule& rule, const nlohmann::json& json, const std::string& where) {
  ObjectReader tensors(json, where + " tensors");
  for (const std::string& role : rule.tensors) node.tensors[role] = tensors.text(role.c_str());
  for (const std::string& role : rule.optional_tensors) {
    if (tensors.has(role.c_str())) node.tensors[role] = tensors.text(role.c_str());
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
  const std::int64_t invocations = conv ? node.shape[1] * node.shape[2] : elements(in) / in.back();
  const std::int64_t repeats = conv ? window.groups : 1;
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
    const OpRule& rule = rule_of(reader.text("op"), where);
    node.op = rule.op;
    node.shape = reader.integers("shape", 1, kMaxElements);
    check_size(node.shape, where);
    for (const std::string& name : reader.texts("inputs", kMaxInputs)) {
      const auto found = places.find(name);
      check(found != places.end(), where, ": its input '", shown(name), "' is no earlier node");
      node.inputs.push_back(found->second);
    }
    check(node.inputs.size() >= rule.min_inputs && node.inputs.size() <= rule.max_inputs, where, ": takes ",
          rule.min_inputs, rule.max_inputs == rule.min_inputs ? "" : " or more", " inputs, got ", node.inputs.size());
    read_attrs(node, reader.object("attrs"), where);
    read_tensors(node, rule, reader.object("tensors"), where);
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
