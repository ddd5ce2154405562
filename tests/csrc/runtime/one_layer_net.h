// Bundles of a single crossbar layer, some with nodes behind it: for bounds and for what the small network has not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/bundle_fixture.h"

namespace cimq::test {

struct OneLayer {
  std::vector<std::int64_t> input, weight;  ///< shapes; weight [out, in] or [out, in / groups, kh, kw]
  std::vector<std::int64_t> output;
  std::vector<std::int64_t> padding = {0, 0, 0, 0};  ///< left, right, top, bottom
  std::int64_t groups = 1;
  int act_zero = 0;
  int weight_bits = 8, act_bits = 8;
  std::int8_t value = 1;  ///< of every weight
};

inline json nodes_of(const OneLayer& layer, const std::string& name = "fc") {
  const bool conv = layer.weight.size() == 4;
  json node = {{"name", name},
               {"op", conv ? "crossbar_conv2d" : "crossbar_linear"},
               {"inputs", {"x"}},
               {"shape", layer.output},
               {"attrs", json::object()},
               {"layer_name", name},
               {"layer_index", 0},
               {"weight_bits", layer.weight_bits},
               {"act_bits", layer.act_bits},
               {"act_signed", false},
               {"outputs", layer.weight[0] / layer.groups},
               {"inputs_per_output", layer.weight[1] * (conv ? layer.weight[2] * layer.weight[3] : 1)},
               {"invocations", conv ? layer.output[1] * layer.output[2] : 1},
               {"repeats", layer.groups},
               {"tensors", {{"weight", "w"}, {"x_scale", "s"}, {"multiplier", "m"}, {"bias", "b"}}}};
  if (layer.act_zero != 0) node["act_zero"] = layer.act_zero;
  if (conv) {
    node["attrs"] = {{"kernel", {layer.weight[2], layer.weight[3]}},
                     {"stride", {1, 1}},
                     {"padding", layer.padding},
                     {"dilation", {1, 1}},
                     {"groups", layer.groups}};
  }
  return json::array({node});
}

inline json plain_node(const std::string& name, const std::string& op, const std::string& input,
                       const std::vector<std::int64_t>& shape, const json& attrs = json::object()) {
  return {{"name", name},   {"op", op},       {"inputs", {input}},
          {"shape", shape}, {"attrs", attrs}, {"tensors", json::object()}};
}

/// The layer and the nodes behind it, of which the last is the output.
inline Files one_layer_files(const OneLayer& layer, const json& nodes, const Hardware& hardware = {}) {
  std::int64_t count = 1;
  for (const std::int64_t dim : layer.weight) count *= dim;
  TensorFile weights;
  weights.add("w", "I8", layer.weight, std::vector<std::int8_t>(static_cast<std::size_t>(count), layer.value));
  weights.add("s", "F32", {}, std::vector<float>{1.0F});
  const std::vector<float> ones(static_cast<std::size_t>(layer.weight[0]), 1.0F);
  weights.add("m", "F32", {layer.weight[0]}, ones);
  weights.add("b", "F32", {layer.weight[0]}, ones);
  json policy = json::object();
  for (const json& node : nodes) {
    if (node.contains("layer_name")) policy[std::string(node["layer_name"])] = {layer.weight_bits, layer.act_bits};
  }
  const json layers = {{"schema", "cimq.layers"},
                       {"version", "1.1.0"},
                       {"input", {{"name", "x"}, {"shape", layer.input}, {"dtype", "float32"}}},
                       {"output", nodes.back()["name"]},
                       {"nodes", nodes}};
  return {{"layers.json", bytes_of(layers.dump())},
          {"hardware.json", bytes_of(hardware.to_json())},
          {"policy.json", bytes_of(policy.dump())},
          {"weights.safetensors", weights.bytes()}};
}

inline Files one_layer_files(const OneLayer& layer) { return one_layer_files(layer, nodes_of(layer)); }

}  // namespace cimq::test
