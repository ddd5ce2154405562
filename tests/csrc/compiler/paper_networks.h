// The networks and policies of tests/data/policies_date2026.json as graphs: layer shapes, one after the other.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "compiler/ir/graph.h"

namespace cimq::test {

inline nlohmann::json paper_policies() {
  std::ifstream file(CIMQ_TEST_DATA "/policies_date2026.json");
  return nlohmann::json::parse(file);
}

/// What compiling looks at is there; shapes do not fit each other.
inline compiler::Graph chain_of(const nlohmann::json& layers, const nlohmann::json& bits) {
  compiler::Graph graph;
  graph.input_name = "x";
  graph.input_shape = {1};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    compiler::Node node;
    node.name = "n" + std::to_string(i);
    node.op = compiler::OpKind::kCrossbarLinear;
    node.inputs = {static_cast<int>(i) - 1};
    node.shape = {1};
    for (const char* role : {"weight", "x_scale", "multiplier", "bias"}) node.tensors[role] = node.name + "." + role;
    compiler::CrossbarLayer layer;
    layer.layer_name = node.name;
    layer.layer_index = static_cast<std::uint32_t>(i);
    layer.weight_bits = bits[i][0];
    layer.act_bits = bits[i][1];
    layer.outputs = layers[i]["outputs"];
    layer.inputs_per_output = layers[i]["inputs"];
    layer.invocations = layers[i]["invocations"];
    layer.repeats = layers[i]["repeats"];
    node.crossbar = layer;
    graph.nodes.push_back(std::move(node));
  }
  graph.output = static_cast<int>(layers.size()) - 1;
  return graph;
}

}  // namespace cimq::test
