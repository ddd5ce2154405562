// Random networks on random machines, by every pipeline: programs that are accepted compute what the executor computes,
// also when somebody has changed them.
#include <algorithm>
#include <catch2/catch.hpp>
#include <sstream>

#include "common/error.h"
#include "compiler/cost/network.h"
#include "compiler/cost/rounds.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/passes/pipeline.h"
#include "compiler/sim/simulate.h"
#include "compiler/verify/program.h"
#include "runtime/executor.h"
#include "runtime/interpreter/interpreter.h"
#include "runtime/random_net.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Executor;
using cimq::Hardware;
using cimq::runtime::Interpreter;
using cimq::runtime::RunResult;

namespace {

bool same(const RunResult& a, const RunResult& b) {
  const auto equal = [](const auto& x, const auto& y) {
    return x.name == y.name && x.shape == y.shape && x.exact == y.exact && x.integers == y.integers &&
           x.floats == y.floats;
  };
  return a.output.shape == b.output.shape && a.output.data == b.output.data &&
         std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(), equal);
}

Module compiled(const RandomNet& net, const Hardware& hardware, const char* pipeline) {
  Context context;
  return compile_graph(read_layers(net.layers.dump()), hardware, pipeline_named(pipeline), context);
}

/// One change of a program's text: a line less, twice or elsewhere, or another number in it.
std::string changed(const std::string& text, Draw& draw) {
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  const int last = static_cast<int>(lines.size()) - 1;
  const auto at = static_cast<std::size_t>(draw.between(1, last));
  const auto place = [&](std::size_t i) { return lines.begin() + static_cast<std::ptrdiff_t>(i); };
  switch (draw.between(0, 5)) {
    case 0:
      lines.erase(place(at));
      break;
    case 1:
      lines.insert(place(static_cast<std::size_t>(draw.between(1, last))), lines[at]);
      break;
    case 2:
      std::swap(lines[at], lines[static_cast<std::size_t>(draw.between(1, last))]);
      break;
    default: {
      std::string& line = lines[at];
      std::vector<std::size_t> digits;
      for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] >= '0' && line[i] <= '9' && (line[i - 1] == ':' || line[i - 1] == '[' || line[i - 1] == ',')) {
          digits.push_back(i);
        }
      }
      if (!digits.empty()) {
        line[digits[static_cast<std::size_t>(draw.between(0, static_cast<int>(digits.size()) - 1))]] =
            static_cast<char>('0' + draw.between(0, 3));
      }
    }
  }
  std::string result;
  for (const std::string& line : lines) result += line + "\n";
  return result;
}

}  // namespace

TEST_CASE("Every pipeline's program computes what the executor computes", "[programs]") {
  const unsigned seed = GENERATE(range(0U, 200U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  INFO("seed " << seed << " " << hardware.to_json() << "\n" << net.layers.dump());
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  const auto x = net.sample(2);
  const RunResult wanted = Executor::load(folder.path()).run_layers(x);
  for (const char* pipeline : {"closed_form", "stationary"}) {
    const Module module = compiled(net, hardware, pipeline);
    const std::string text = write_program(*module.program);
    INFO(text);
    const Program read = read_program(text);
    CHECK(write_program(read) == text);
    CHECK(verify_program(read, module.graph) == read.counts);
    CHECK(same(Interpreter::load(folder.path(), read).run_layers(x), wanted));
  }
}

TEST_CASE("A changed program is refused, or computes the same", "[programs]") {
  const unsigned seed = GENERATE(range(1000U, 1040U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  const auto x = net.sample(2);
  const RunResult wanted = Executor::load(folder.path()).run_layers(x);
  for (const char* pipeline : {"closed_form", "stationary"}) {
    const std::string text = write_program(*compiled(net, hardware, pipeline).program);
    const auto graph = read_layers(net.layers.dump());
    for (int i = 0; i < 60; ++i) {
      const std::string other = changed(text, draw);
      INFO("seed " << seed << ", change " << i << "\n" << other);
      std::optional<Program> accepted;
      try {
        accepted = read_program(other);
        verify_program(*accepted, graph);
      } catch (const cimq::Error& error) {
        CHECK_THAT(error.what(), Contains("program.jsonl") || Contains("hardware"));
        accepted.reset();
      }
      if (accepted) CHECK(same(Interpreter::load(folder.path(), *accepted).run_layers(x), wanted));
    }
  }
}

TEST_CASE("Simulated time agrees with the closed form at both ends, and with its bounds between", "[programs]") {
  const unsigned seed = GENERATE(range(2000U, 2060U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  const Graph graph = read_layers(net.layers.dump());
  INFO("seed " << seed << "\n" << net.layers.dump());
  const auto on = [&](std::optional<std::int64_t> crossbars, const char* pipeline) {
    hardware.resources.crossbars = crossbars;
    return simulate(*compiled(net, hardware, pipeline).program);
  };
  const NetworkCost cost = closed_form(graph, hardware);
  for (const char* pipeline : {"closed_form", "stationary"}) {
    const SimulatedTime one = on(1, pipeline);
    INFO(pipeline);
    CHECK(one.time_ps == cost.time_ps);
    CHECK(one.write_ps == cost.writes * picoseconds(hardware.timing.write_time_us));
    CHECK(one.crossbars == 1);
    CHECK(one.utilisation() == Approx(1.0));
  }
  std::int64_t serial = 0;
  for (const Node& node : graph.nodes) {
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    serial += layer.repeats * layer.invocations * cimq::input_digits(hardware, layer.act_bits) *
              picoseconds(hardware.timing.mvm_time_us);
  }
  CHECK(on(std::nullopt, "stationary").time_ps == serial);
  std::int64_t before = cost.time_ps;
  for (const std::int64_t crossbars : {2, 3, 4, 8, 16, 64, 1024}) {
    const SimulatedTime time = on(crossbars, "stationary");
    INFO(crossbars << " crossbars");
    CHECK(time.crossbars <= crossbars);
    CHECK(time.write_ps + time.mvm_ps == time.time_ps);
    CHECK(time.time_ps >= serial);
    CHECK(time.time_ps * crossbars >= time.busy_ps);
    CHECK(time.time_ps <= before);
    before = time.time_ps;
  }
}

TEST_CASE("Placing knows the time that its program takes", "[programs]") {
  const unsigned seed = GENERATE(range(3000U, 3060U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  if (draw.one_in(2)) hardware.resources.parallel_writes = draw.between(1, 4);
  const RandomNet net(draw, hardware);
  INFO("seed " << seed << " " << hardware.to_json() << "\n" << net.layers.dump());
  const Module module = compiled(net, hardware, "stationary");
  PoolMachine machine{0, picoseconds(hardware.timing.write_time_us), hardware.resources.parallel_writes.value_or(0)};
  std::vector<LayerLoad> loads;
  std::vector<std::int64_t> resident;
  for (std::size_t i = 0; i < module.tiles->size(); ++i) {
    const CrossbarLayer& layer = crossbar_of(module.graph.nodes[(*module.tiles)[i].node]);
    const LayerTiling& tiling = (*module.tiles)[i].tiling;
    loads.push_back(
        {tiling.tiles(), layer.repeats, layer.invocations, picoseconds(hardware.timing.mvm_time_us) * tiling.digits});
    const LayerPlacement& placement = (*module.placement)[i];
    resident.push_back(placement.resident);
    machine.pool = std::max(machine.pool, static_cast<std::int64_t>(placement.crossbars.size()));
    // Where the placement says that a tile is, no other is at the same time if it stays.
    for (std::int64_t g = 0; g < layer.repeats; ++g) {
      for (std::int64_t t = 0; t < tiling.tiles(); ++t) {
        const std::int64_t crossbar = placement.crossbar_of(g, t, layer.repeats, tiling.tiles());
        CHECK((g * tiling.tiles() + t < placement.resident) == (crossbar >= machine.pool));
      }
    }
  }
  CHECK(time_in_rounds(machine, loads, resident) == static_cast<std::uint64_t>(simulate(*module.program).time_ps));
}

TEST_CASE("More write ports never slow a program down", "[programs]") {
  Draw draw(7);
  Hardware hardware = random_machine(draw);
  hardware.rows = 2;
  hardware.cols = 4;
  hardware.resources.crossbars = 8;
  const RandomNet net(draw, hardware);
  Program program = *compiled(net, hardware, "stationary").program;
  std::int64_t before = INT64_MAX;
  for (const std::int64_t ports : {1, 2, 3, 8, 100}) {
    program.hardware.resources.parallel_writes = ports;
    const std::int64_t time = simulate(program).time_ps;
    CHECK(time <= before);
    before = time;
  }
  program.hardware.resources.parallel_writes.reset();
  CHECK(simulate(program).time_ps == before);
}
