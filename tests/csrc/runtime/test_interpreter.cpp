// A program, run instruction by instruction, computes what the executor's kernels compute.
#include <catch2/catch.hpp>
#include <random>

#include "common/error.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/passes/pipeline.h"
#include "runtime/bundle_fixture.h"
#include "runtime/executor.h"
#include "runtime/interpreter/interpreter.h"

using cimq::Executor;
using cimq::Hardware;
using cimq::Mapping;
using cimq::runtime::Interpreter;
using cimq::runtime::RunResult;
using namespace cimq::test;
using Catch::Matchers::Contains;

namespace {

struct Case {
  Hardware hardware;
  int act_zero = 0;
};

json layers_of(const Case& c) {
  json layers = layers_of_small_net();
  if (c.act_zero != 0) {
    layers["version"] = "1.1.0";
    layers["nodes"][0]["act_signed"] = false;
    layers["nodes"][0]["act_zero"] = c.act_zero;
  }
  return layers;
}

Files files_of(const Case& c) {
  Files files = small_net_files({}, c.hardware);
  files["layers.json"] = bytes_of(layers_of(c).dump());
  return files;
}

void equal(const RunResult& wanted, const RunResult& got) {
  REQUIRE(got.layers.size() == wanted.layers.size());
  for (std::size_t i = 0; i < wanted.layers.size(); ++i) {
    INFO(wanted.layers[i].name);
    CHECK(got.layers[i].name == wanted.layers[i].name);
    CHECK(got.layers[i].shape == wanted.layers[i].shape);
    CHECK(got.layers[i].exact == wanted.layers[i].exact);
    CHECK(got.layers[i].integers == wanted.layers[i].integers);
    CHECK(got.layers[i].floats == wanted.layers[i].floats);
  }
  CHECK(got.output.shape == wanted.output.shape);
  CHECK(got.output.data == wanted.output.data);
}

/// A machine drawn from `seed`; its arrays hold pairs whole.
Case drawn(unsigned seed) {
  std::mt19937 random(seed);
  const auto one_of = [&random](std::initializer_list<int> values) {
    return *(values.begin() + static_cast<std::ptrdiff_t>(random() % values.size()));
  };
  Case c;
  Hardware& h = c.hardware;
  h.mapping = static_cast<Mapping>(one_of({0, 1, 2}));
  h.rows = 2 * one_of({1, 2, 3, 8, 128});
  h.cols = 2 * one_of({1, 2, 5, 16, 128});
  h.cell_bits = one_of({1, 2, 3, 4});
  h.dac_bits = one_of({1, 2, 3});
  h.sign_magnitude = h.mapping != Mapping::kOffset && one_of({0, 1}) == 1;
  c.act_zero = one_of({0, 0, -1, -31});
  if (one_of({0, 1}) == 1) {
    h.adc.bits = one_of({2, 4, 6, 9});
    h.adc.range = one_of({0, 1}) == 0 ? cimq::AdcRange::kFullScale : cimq::AdcRange::kGranular;
    h.adc.placement = one_of({0, 1}) == 0 ? cimq::AdcPlacement::kPerColumn : cimq::AdcPlacement::kDifferential;
  }
  if (one_of({0, 1, 2}) == 0) {
    h.cell.programming.model = "gaussian";
    h.cell.programming.sigma_levels = 0.3;
  }
  switch (one_of({0, 1, 2, 2})) {
    case 0:
      h.cell.read.model = "constant";
      h.cell.read.sigma_levels = 0.2;
      break;
    case 1:
      h.cell.read.model = "proportional";
      h.cell.read.sigma_ratio = 0.1;
      break;
    default:
      break;
  }
  const int crossbars = one_of({0, 1, 2, 7});
  h.resources.crossbars.reset();
  if (crossbars > 0) h.resources.crossbars = crossbars;
  return c;
}

}  // namespace

TEST_CASE("The program computes what the executor computes", "[interpreter]") {
  const unsigned seed = GENERATE(range(0U, 150U));
  const Case c = drawn(seed);
  INFO("seed " << seed << " " << c.hardware.to_json());
  const TemporaryFolder folder;
  write_bundle(folder.path(), files_of(c));
  const auto graph = cimq::compiler::read_layers(layers_of(c).dump());
  const auto module = cimq::compiler::compile_graph(graph, c.hardware);
  const auto x = small_net_input(2);
  equal(Executor::load(folder.path()).run_layers(x), Interpreter::load(folder.path(), *module.program).run_layers(x));
}

TEST_CASE("A machine that cuts a pair in two can be lossless only", "[interpreter]") {
  for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kDifferentialRow}) {
    Case c;
    c.hardware.mapping = mapping;
    c.hardware.rows = c.hardware.cols = 3;
    const TemporaryFolder folder;
    const auto x = small_net_input(1);
    const auto load = [&] {
      write_bundle(folder.path(), files_of(c));
      const auto graph = cimq::compiler::read_layers(layers_of(c).dump());
      return Interpreter::load(folder.path(), *cimq::compiler::compile_graph(graph, c.hardware).program);
    };
    const auto got = load().run_layers(x);
    equal(Executor::load(folder.path()).run_layers(x), got);
    c.hardware.adc.bits = 4;
    CHECK_THROWS_WITH(load(), Contains("node 'conv'") && Contains("3") && Contains("holds one of them"));
  }
}

TEST_CASE("The bundle's own program is the one that runs", "[interpreter]") {
  const TemporaryFolder folder;
  Files files = files_of({});
  write_bundle(folder.path(), files);
  CHECK_THROWS_WITH(Interpreter::load(folder.path()), Contains("the bundle has no program.jsonl"));
  const auto graph = cimq::compiler::read_layers(layers_of_small_net().dump());
  files["program.jsonl"] =
      bytes_of(cimq::compiler::write_program(*cimq::compiler::compile_graph(graph, Hardware{}).program));
  write_bundle(folder.path(), files);
  const auto x = small_net_input(3);
  equal(Executor::load(folder.path()).run_layers(x), Interpreter::load(folder.path()).run_layers(x));
  CHECK(Interpreter::load(folder.path()).run_layers(small_net_input(0)).output.data.empty());
  CHECK_THROWS_WITH(Interpreter::load(folder.path()).run_layers({{1, 2}, {0.0F, 0.0F}}), Contains("shape must be"));
  CHECK_THROWS_WITH(Interpreter::load(folder.path(), {.max_operations = 10}), Contains("max_operations"));
}
