// Products of two values: the crossbars hold the second one, which is quantised and written for every sample.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/error.h"
#include "compiler/cost/network.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/passes/pipeline.h"
#include "compiler/program_lines.h"
#include "compiler/sim/simulate.h"
#include "compiler/verify/program.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Hardware;
using nlohmann::json;

namespace {

/// x [2, 3, 4] times its first two rows: [2, 3, 2]; a linear layer after it.
json layers() {
  const json none = json::object();
  json product = {{"name", "qk"}, {"op", "crossbar_matmul"}, {"inputs", {"x", "k"}}, {"shape", {2, 3, 2}}};
  product.update({{"attrs", none}, {"layer_name", "qk"}, {"layer_index", 0}, {"weight_bits", 3}, {"act_bits", 2}});
  product.update({{"act_signed", false}, {"act_zero", -1}, {"outputs", 2}, {"inputs_per_output", 4}});
  product.update({{"invocations", 3}, {"repeats", 2}});
  product["tensors"] = {{"x_scale", "qk.x_scale"}, {"w_scale", "qk.w_scale"}, {"multiplier", "qk.multiplier"}};
  json linear = {{"name", "fc"}, {"op", "crossbar_linear"}, {"inputs", {"qk"}}, {"shape", {2, 3, 5}}, {"attrs", none}};
  linear.update({{"layer_name", "fc"}, {"layer_index", 1}, {"weight_bits", 3}, {"act_bits", 2}, {"act_signed", false}});
  linear.update({{"outputs", 5}, {"inputs_per_output", 2}, {"invocations", 6}, {"repeats", 1}});
  for (const char* role : {"weight", "x_scale", "multiplier", "bias"}) {
    linear["tensors"][role] = "fc." + std::string(role);
  }
  json part = {{"name", "k"}, {"op", "slice"}, {"inputs", {"x"}}, {"shape", {2, 2, 4}}, {"tensors", none}};
  part["attrs"] = {{"start", {0, 0, 0}}, {"stop", {2, 2, 4}}, {"step", {1, 1, 1}}};
  return {{"schema", "cimq.layers"},
          {"version", "1.5.0"},
          {"input", {{"name", "x"}, {"shape", {2, 3, 4}}, {"dtype", "float32"}}},
          {"output", "fc"},
          {"nodes", {part, product, linear}}};
}

Graph network() { return read_layers(layers().dump()); }

std::vector<std::string> program(const char* pipeline, std::optional<std::int64_t> crossbars, std::int64_t batch = 1) {
  Hardware hardware;
  hardware.resources.crossbars = crossbars;
  Context context;
  context.batch = batch;
  const Module module = compile_graph(network(), hardware, pipeline_named(pipeline), context);
  return lines_of(write_program(*module.program));
}

void refused(const std::vector<std::string>& lines, const std::string& part) {
  CHECK_THROWS_WITH(verify_program(read_program(text_of(lines)), network()), Contains(part));
}

constexpr const char* kOperand = R"("dst":"qk.w_q")";
constexpr const char* kWrite = R"("weight":"qk.w_q","repeat")";

}  // namespace

TEST_CASE("A written operand is a QUANT, and a WRITE from its register", "[program]") {
  const std::vector<std::string> lines = program("closed_form", 1);
  const json quant = json::parse(lines[find_line(lines, kOperand)]);
  CHECK(quant["operand"] == true);
  CHECK(quant["src"] == "k");
  CHECK(quant["scale"] == "qk.w_scale");
  CHECK(quant["lo"] == -3);
  CHECK(quant["hi"] == 3);
  const json request = json::parse(lines[find_line(lines, R"("src":"qk.y")")]);
  CHECK(!request.contains("bias"));
  CHECK(request["weight"] == "qk.w_q");
  CHECK(json::parse(lines[0])["version"] == "1.4.0");
  CHECK(json::parse(lines[0])["writes"] == 2 + 1);
}

TEST_CASE("A program that does otherwise with an operand is refused by line", "[program]") {
  const std::vector<std::string> lines = program("closed_form", 1);
  refused(changed(lines, kOperand, R"("src":"k")", R"("src":"x")"), "must read 'k', got 'x'");
  refused(changed(lines, kOperand, "qk.w_scale", "qk.x_scale"), "w_scale must be 'qk.w_scale'");
  refused(changed(lines, kOperand, R"("lo":-3)", R"("lo":-4)"), "the range must be that of weights of 3 bits");
  refused(changed(lines, kOperand, R"(,"operand":true)", R"(,"operand":true,"row":0)"), "quantised as a whole");
  refused(changed(lines, kOperand, R"("operand":true)", R"("operand":false)"), "the range must be that of 2 bits");
  refused(changed(lines, kWrite, "qk.w_q", "qk.x_q"), "does not hold the quantised second input of layer 0");
  refused(changed(lines, kWrite, "qk.w_q", "fc.weight"), "'fc.weight' is read before it is computed");
  refused(changed(lines, R"("dst":"fc.x_q")", "}", R"(,"operand":true})"), "layer 1 has no input that its crossbars");
  refused(changed(lines, R"("src":"qk.y")", R"("multiplier")", R"("bias":"fc.bias","multiplier")"), "has no bias");
  refused(changed(lines, R"("src":"fc.y")", R"(,"bias":"fc.bias")", ""), "bias must be 'fc.bias', got ''");
  std::vector<std::string> late = lines;
  std::swap(late[find_line(lines, kOperand)], late[find_line(lines, kWrite)]);
  refused(late, "'qk.w_q' is read before it is computed");
}

TEST_CASE("What is written for a sample is not there when the network is loaded", "[program]") {
  std::vector<std::string> lines = program("stationary", std::nullopt);
  const std::size_t ready = find_line(lines, R"("READY")");
  const std::size_t write = find_line(lines, kWrite);
  REQUIRE(ready < write);
  std::rotate(lines.begin() + static_cast<std::ptrdiff_t>(ready), lines.begin() + static_cast<std::ptrdiff_t>(write),
              lines.begin() + static_cast<std::ptrdiff_t>(write) + 1);
  CHECK_THROWS_AS(verify_program(read_program([&] {
                                   std::string text;
                                   for (const std::string& line : lines) text += line + "\n";
                                   return text;
                                 }()),
                                 network()),
                  cimq::Error);
}

TEST_CASE("A write waits for its operand, and for nothing else but its crossbar", "[simulate]") {
  Hardware hardware;
  hardware.timing.vector_time_us = 1.0;
  hardware.resources.vector_lanes = 1;
  hardware.resources.crossbars.reset();
  Context context;
  const Module module = compile_graph(network(), hardware, pipeline_named("stationary"), context);
  const SimulatedTime time = simulate(*module.program, module.graph);
  const SimulatedLayer& qk = time.layers[0];
  // x is quantised (24 elements), then K (16), one after the other on one lane; then both heads are written at once,
  // and of three vectors each two digits are read.
  const std::int64_t us = 1'000'000;
  CHECK(qk.begin_ps == 0);
  CHECK(qk.critical[Cause::kDigital] >= 40 * us);
  CHECK(qk.critical[Cause::kWrite] == picoseconds(hardware.timing.write_time_us));
  CHECK(qk.writes == 2);
  CHECK(time.layers[1].writes == 0);
}

TEST_CASE("Inputs of a product that do not fit are refused", "[layers]") {
  const auto refuse = [](const json& change, const char* part) {
    json file = layers();
    file["nodes"][1].update(change);
    CHECK_THROWS_WITH(read_layers(file.dump()), Contains("node 'qk'") && Contains(part));
  };
  refuse({{"inputs", {"k", "x"}}}, "its shape does not follow");
  refuse({{"inputs", {"x", "x"}}}, "its shape does not follow");
  refuse({{"inputs", {"x"}}}, "takes 2 inputs, got 1");
  refuse({{"outputs", 3}}, "outputs is 3 but its geometry gives 2");
  refuse({{"inputs_per_output", 3}}, "inputs_per_output is 3 but its geometry gives 4");
  refuse({{"invocations", 6}}, "invocations is 6 but its geometry gives 3");
  refuse({{"repeats", 1}}, "repeats is 1 but its geometry gives 2");
  json file = layers();
  file["nodes"][0]["shape"] = {2, 2, 3};
  file["nodes"][0]["attrs"]["stop"] = {2, 2, 3};
  CHECK_THROWS_WITH(read_layers(file.dump()), Contains("[repeats, vectors, inputs] and [repeats, outputs, inputs]") &&
                                                  Contains("[2, 3, 4] and [2, 2, 3]"));
}

TEST_CASE("A value that crossbars hold serves the sample that it is of", "[program]") {
  std::vector<std::string> lines = program("stationary", std::nullopt, 2);
  CHECK_NOTHROW(verify_program(read_program(text_of(lines)), network()));
  const std::string samples = R"({"op":"LOOP","var":"s","count":2,"samples":true})";
  REQUIRE(find_line(lines, samples) < find_line(lines, kOperand));
  // Written for all samples first: only the last one's is there when the first one's is needed.
  const std::size_t written = find_line(lines, kWrite) + 1;
  REQUIRE(lines[written] == R"({"op":"END"})");
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(written) + 1, {R"({"op":"END"})", samples});
  refused(lines, "does not hold tile 0 of layer 0");
}
