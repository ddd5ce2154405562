// Which images the executor keeps with channels last. That results stay the same is shown by all comparisons of the
// executor with the interpreter and with the model.
#include <algorithm>
#include <catch2/catch.hpp>

#include "compiler/frontends/layers_json.h"
#include "runtime/executor.h"
#include "runtime/image_order.h"
#include "runtime/one_layer_net.h"

using namespace cimq::compiler;
using namespace cimq::test;
using cimq::Hardware;
using cimq::runtime::order_images;
using cimq::runtime::OrderedNetwork;

namespace {

const OneLayer kConv = {.input = {2, 3, 4}, .weight = {5, 2, 1, 1}, .output = {5, 3, 4}};

json with(const OneLayer& layer, std::initializer_list<json> behind) {
  json nodes = nodes_of(layer);
  for (const json& node : behind) nodes.push_back(node);
  return nodes;
}

OrderedNetwork ordered(const Files& files, const Hardware& hardware = {}) {
  const auto& text = files.at("layers.json");
  return order_images(read_layers(std::string(text.begin(), text.end())), hardware);
}

std::vector<std::string> names(const OrderedNetwork& network) {
  std::vector<std::string> result;
  for (const Node& node : network.graph.nodes) result.push_back(node.name);
  return result;
}

}  // namespace

TEST_CASE("Images stay in the order of the convolutions", "[order]") {
  const json slice = {{"start", {1, 0, 0}}, {"stop", {5, 3, 4}}, {"step", {2, 1, 1}}};
  const auto network =
      ordered(one_layer_files(kConv, with(kConv, {plain_node("relu", "relu", "fc", {5, 3, 4}),
                                                  plain_node("part", "slice", "relu", {2, 3, 4}, slice),
                                                  plain_node("flat", "flatten", "part", {24})})));
  CHECK(names(network) ==
        std::vector<std::string>{"x (channels last)", "fc", "relu", "part", "part (channels first)", "flat"});
  CHECK(network.special == std::vector<bool>{false, true, false, false, false, false});
  CHECK(network.origin == std::vector<int>{-1, 0, 1, 2, -1, 3});
  CHECK(network.graph.nodes[3].shape == Shape{3, 4, 2});
  CHECK(network.graph.nodes[3].slice_start == Shape{0, 0, 1});
  CHECK(network.graph.output == 5);
  for (const Node& node : network.graph.nodes) {
    if (node.op != OpKind::kCrossbarConv2d) CHECK(infer_shape(network.graph, node) == node.shape);
  }
}

TEST_CASE("A value that is needed in both orders is moved once", "[order]") {
  const auto network =
      ordered(one_layer_files(kConv, with(kConv, {plain_node("a", "flip", "fc", {5, 3, 4}, {{"dims", {0}}}),
                                                  plain_node("b", "flip", "fc", {5, 3, 4}, {{"dims", {1}}})})));
  CHECK(std::ranges::count(names(network), "fc (channels first)") == 1);
}

TEST_CASE("Layers with slices, variation or groups keep channels first", "[order]") {
  Hardware lossy;
  lossy.adc.bits = 5;
  CHECK(names(ordered(one_layer_files(kConv, nodes_of(kConv)), lossy)) == std::vector<std::string>{"fc"});
  Hardware noisy;
  noisy.cell.programming.model = "gaussian";
  noisy.cell.programming.sigma_levels = 0.1;
  CHECK(names(ordered(one_layer_files(kConv, nodes_of(kConv)), noisy)) == std::vector<std::string>{"fc"});
  const OneLayer grouped = {.input = {2, 3, 4}, .weight = {2, 1, 1, 1}, .output = {2, 3, 4}, .groups = 2};
  CHECK(names(ordered(one_layer_files(grouped, nodes_of(grouped)))) == std::vector<std::string>{"fc"});
}

TEST_CASE("Raw results are given with channels first", "[order]") {
  const TemporaryFolder folder;
  OneLayer layer = kConv;
  layer.output = {5, 3, 4};
  write_bundle(folder.path(), one_layer_files(layer, nodes_of(layer)));
  const auto executor = cimq::Executor::load(folder.path());
  cimq::runtime::Tensor x{{1, 2, 3, 4}, {}};
  for (int i = 0; i < 24; ++i) x.data.push_back(static_cast<float>(i));
  const auto result = executor.run_layers(x);
  for (int c = 0; c < 5; ++c) {
    for (int p = 0; p < 12; ++p) {
      const int sum = p + (12 + p);  // weights are 1
      CHECK(result.layers[0].integers[static_cast<std::size_t>(12 * c + p)] == sum);
      CHECK(result.output.data[static_cast<std::size_t>(12 * c + p)] == static_cast<float>(sum + 1));
    }
  }
}
