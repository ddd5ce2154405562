// The time of small programs, by hand.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "compiler/passes/pipeline.h"
#include "compiler/sim/simulate.h"

using namespace cimq::compiler;
using Catch::Matchers::Contains;
using cimq::Hardware;

namespace {

Node node_of(const std::string& name, OpKind op, int input, const Shape& shape) {
  Node node;
  node.name = name;
  node.op = op;
  node.inputs = {input};
  node.shape = shape;
  return node;
}

/// A linear layer of 16 inputs and 3 outputs for 2 vectors: on machine `paper` 2 cells per weight, 8 digits of 1.4 us,
/// 12 columns, 6 converted lines.
Graph two_vectors() {
  Graph graph;
  graph.input_name = std::string("x");
  graph.input_shape = {2, 16};
  Node node = node_of("fc", OpKind::kCrossbarLinear, -1, {2, 3});
  for (const char* role : {"weight", "x_scale", "multiplier", "bias"}) node.tensors.emplace(role, role);
  CrossbarLayer layer;
  layer.layer_name = node.name;
  layer.outputs = 3;
  layer.inputs_per_output = 16;
  layer.invocations = 2;
  node.crossbar = layer;
  graph.nodes = {node};
  graph.output = 0;
  return graph;
}

SimulatedTime run(const Hardware& hardware, const Graph& graph = two_vectors()) {
  Context context;
  return simulate(*compile_graph(graph, hardware, pipeline_named("stationary"), context).program, graph);
}

Hardware with_bus_and_lanes() {
  Hardware hw;
  hw.resources.bus_bytes_per_us = 16.0;
  hw.resources.vector_lanes = 1;
  hw.timing.vector_time_us = 0.01;
  return hw;
}

}  // namespace

TEST_CASE("Vectors go through a layer one after the other", "[simulate]") {
  const SimulatedTime time = run(Hardware{});
  CHECK(time.time_ps == 2 * 8 * 1'400'000);
  CHECK(time.causes[Cause::kMvm] == time.time_ps);
  CHECK(time.layers[0].mvms == 16);
  CHECK(time.layers[0].writes == 0);
  CHECK(time.buffer_bytes == 16 + 6 * 4);
}

TEST_CASE("A vector comes over the bus while the last one is multiplied", "[simulate]") {
  const SimulatedTime time = run(with_bus_and_lanes());
  // QUANT of 32 elements, the first vector in 1 us, two MVMs, SHADD of 6 lines, 3 bytes back, REQ of 6 elements.
  CHECK(time.time_ps == 320'000 + 1'000'000 + 2 * 11'200'000 + 60'000 + 187'500 + 60'000);
  CHECK(time.causes[Cause::kDigital] == 440'000);
  CHECK(time.causes[Cause::kMove] == 1'187'500);
  CHECK(time.causes[Cause::kMvm] == 22'400'000);
  CHECK(time.causes[Cause::kStall] == 0);
  CHECK(time.layers[0].critical.ps == time.causes.ps);
  CHECK(time.bus_in.busy_ps == 2'000'000);
  CHECK(time.bus_out.busy_ps == 375'000);
  CHECK(time.vector_unit.busy_ps == 320'000 + 2 * 60'000 + 60'000);
  CHECK(time.layers[0].begin_ps == 0);
  CHECK(time.layers[0].end_ps == time.time_ps);
}

TEST_CASE("Converters hold a crossbar, and the last conversion is waited for", "[simulate]") {
  Hardware hw;
  hw.timing.adc_time_us = 0.5;
  hw.resources.adcs_per_crossbar = 2;  // 3 rounds: 1.5 us a digit
  const SimulatedTime time = run(hw);
  CHECK(time.time_ps == 2 * 8 * 1'500'000 + 1'400'000);
  CHECK(time.causes[Cause::kMvm] == 22'400'000);
  CHECK(time.causes[Cause::kAdc] == 3'000'000);
  CHECK(time.crossbars.busy_ps == 24'000'000);
  CHECK(time.layers[0].adc_ps == 1'600'000);
}

TEST_CASE("A buffer for one vector keeps the next one waiting", "[simulate]") {
  Hardware hw = with_bus_and_lanes();
  hw.resources.buffer_bytes = 16 + 24;
  const SimulatedTime time = run(hw);
  // The second vector's way over the bus is not hidden.
  CHECK(time.time_ps == 25'027'500);
  CHECK(time.causes[Cause::kStall] == 11'200'000);
  CHECK(time.causes.total() == time.time_ps);
  hw.resources.buffer_bytes = 16 + 16 + 24;  // it is hidden, but the sums of the first one must have left
  CHECK(run(hw).causes[Cause::kStall] == 60'000 + 187'500);
  hw.resources.buffer_bytes = 2 * (16 + 24);
  CHECK(run(hw).time_ps == run(with_bus_and_lanes()).time_ps);
  hw.resources.buffer_bytes = 39;
  CHECK_THROWS_WITH(run(hw), Contains("program.jsonl: line 8: MVM needs 24 bytes for the sums of an input vector of "
                                      "layer 'fc', but resources.buffer_bytes is 39 and 16 bytes hold") &&
                                 Contains("at least 40 bytes"));
  hw.resources.buffer_bytes = 15;
  CHECK_THROWS_WITH(run(hw), Contains("line 7: IM2COL needs 16 bytes for an input vector of layer 'fc'"));
}

TEST_CASE("Nodes without crossbars take the vector unit and lie between the layers", "[simulate]") {
  Graph graph = two_vectors();
  graph.nodes.push_back(node_of("relu", OpKind::kRelu, 0, {2, 3}));
  graph.nodes.push_back(node_of("flat", OpKind::kFlatten, 1, {6}));
  graph.output = 2;
  const SimulatedTime with = run(with_bus_and_lanes(), graph);
  CHECK(with.time_ps == run(with_bus_and_lanes()).time_ps + 6 * 10'000);
  CHECK(with.between_layers[Cause::kDigital] == 60'000);
  CHECK(with.between_layers.total() == 60'000);
  CHECK(with.layers[0].critical.total() + 60'000 == with.time_ps);
}

TEST_CASE("A trace has the events of every resource", "[simulate]") {
  const Graph graph = two_vectors();
  Context context;
  const Program program = *compile_graph(graph, with_bus_and_lanes(), pipeline_named("stationary"), context).program;
  std::string text;
  const SimulatedTime time = simulate(program, graph, text);
  const nlohmann::json trace = nlohmann::json::parse(text);
  std::map<std::string, double> busy;
  double end = 0.0;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    end = std::max(end, event["ts"].get<double>() + event["dur"].get<double>());
    if (event["cat"] != "layer") busy[event["name"]] += event["args"]["busy_us"].get<double>();
  }
  CHECK(end == Approx(24.0275));
  CHECK(busy["fc mvm"] == Approx(22.4));
  CHECK(busy["fc move"] == Approx(2.375));
  CHECK(busy["fc digital"] == Approx(0.5));
  CHECK(simulate(program, graph).time_ps == time.time_ps);
}
