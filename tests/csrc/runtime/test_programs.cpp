// Random networks on random machines, by every pipeline: programs that are accepted compute what the executor computes,
// also when somebody has changed them.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string_view>

#include "compiler/cost/network.h"
#include "compiler/cost/rounds.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/ir/tiling.h"
#include "runtime/executor.h"
#include "runtime/random_programs.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Executor;
using cimq::Hardware;
using cimq::runtime::RunResult;

namespace {

std::int64_t vector_time(const CrossbarLayer& layer, const Hardware& hardware) {
  return cimq::input_digits(hardware, layer.act_bits) * picoseconds(hardware.timing.mvm_time_us);
}

}  // namespace

TEST_CASE("Every pipeline's program computes what the executor computes", "[programs]") {
  const unsigned seed = GENERATE(range(0U, 260U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, seed >= 200U);
  INFO("seed " << seed << " " << hardware.to_json() << "\n" << net.layers.dump());
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  const auto x = net.sample(2);
  const RunResult wanted = Executor::load(folder.path()).run_layers(x);
  const Duplication copies = random_copies(net, hardware, draw);
  for (const auto& [pipeline, duplication] : ways(copies)) {
    check_program(compiled(net, hardware, pipeline, duplication), folder.path(), x, wanted);
  }
}

TEST_CASE("A changed program is refused, or computes the same", "[programs]") {
  const unsigned seed = GENERATE(range(1000U, 1050U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, seed >= 1040U);
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  const auto x = net.sample(2);
  const RunResult wanted = Executor::load(folder.path()).run_layers(x);
  const Duplication copies = random_copies(net, hardware, draw);
  INFO("seed " << seed);
  for (const auto& [pipeline, duplication] : ways(copies)) {
    check_changed(compiled(net, hardware, pipeline, duplication), folder.path(), x, wanted, draw);
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
    return timed(compiled(net, hardware, pipeline));
  };
  const NetworkCost cost = closed_form(graph, hardware);
  for (const char* pipeline : {"closed_form", "stationary"}) {
    const SimulatedTime one = on(1, pipeline);
    INFO(pipeline);
    CHECK(one.time_ps == cost.time_ps);
    CHECK(one.causes[Cause::kWrite] == cost.writes * picoseconds(hardware.timing.write_time_us));
    CHECK(one.crossbars.parts == 1);
    CHECK(one.utilisation() == Approx(1.0));
  }
  std::int64_t serial = 0;
  for (const Node& node : graph.nodes) {
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    serial += layer.repeats * layer.invocations * vector_time(layer, hardware);
  }
  CHECK(on(std::nullopt, "stationary").time_ps == serial);
  std::int64_t before = cost.time_ps;
  for (const std::int64_t crossbars : {2, 3, 4, 8, 16, 64, 1024}) {
    const SimulatedTime time = on(crossbars, "stationary");
    INFO(crossbars << " crossbars");
    CHECK(time.crossbars.parts <= crossbars);
    CHECK(time.causes[Cause::kWrite] + time.causes[Cause::kMvm] == time.time_ps);
    CHECK(time.time_ps >= serial);
    CHECK(time.time_ps * crossbars >= time.crossbars.busy_ps);
    CHECK(time.time_ps <= before);
    before = time.time_ps;
  }
}

TEST_CASE("Values that crossbars hold are written for every sample, in no more time than the closed form takes",
          "[programs]") {
  const unsigned seed = GENERATE(range(7000U, 7020U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, true);
  const Graph graph = read_layers(net.layers.dump());
  INFO("seed " << seed << "\n" << net.layers.dump());
  const NetworkCost cost = closed_form(graph, hardware);
  std::int64_t written = 0;
  for (const Node& node : graph.nodes) {
    if (writes_operand(node.op)) written += node.crossbar->repeats * tile_layer(hardware, *node.crossbar).tiles();
  }
  for (const std::int64_t crossbars : {1, 2, 3, 8, 40, 0}) {
    hardware.resources.crossbars.reset();
    if (crossbars > 0) hardware.resources.crossbars = crossbars;
    INFO(crossbars << " crossbars");
    for (const char* pipeline : {"closed_form", "stationary", kRows.data(), "pipelined"}) {
      INFO(pipeline);
      const Module module = compiled(net, hardware, pipeline);
      const SimulatedTime time = timed(module);
      CHECK(module.program->counts.writes >= written);
      CHECK(time.time_ps <= cost.time_ps);
      if (crossbars == 1) CHECK(time.time_ps == cost.time_ps);
      if (crossbars > 0) CHECK(time.crossbars.parts <= crossbars);
      // Where there is room all the rest stays.
      if (crossbars == 0 && pipeline != std::string_view("closed_form")) {
        CHECK(module.program->counts.writes == written);
      }
    }
  }
}

TEST_CASE("Copies divide the time of a layer where crossbars suffice", "[programs]") {
  const unsigned seed = GENERATE(range(4000U, 4060U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  hardware.resources.crossbars.reset();
  const RandomNet net(draw, hardware);
  INFO("seed " << seed << "\n" << net.layers.dump());
  const Module module = compiled(net, hardware, "stationary", random_copies(net, hardware, draw));
  const SimulatedTime time = timed(module);
  std::int64_t sum = 0;
  std::int64_t crossbars = 0;
  for (std::size_t i = 0; i < module.tiles->size(); ++i) {
    const CrossbarLayer& layer = crossbar_of(module.graph.nodes[(*module.tiles)[i].node]);
    const std::int64_t copies = (*module.copies)[i];
    sum += layer.repeats * ((layer.invocations + copies - 1) / copies) * vector_time(layer, hardware);
    crossbars += layer.repeats * copies * (*module.tiles)[i].tiling.tiles();
  }
  CHECK(time.time_ps == sum);
  CHECK(time.crossbars.parts == crossbars);
  // Any machine is at least as fast with copies that it chooses for itself.
  for (const std::int64_t limit : {1, 3, 10, 50, 500}) {
    hardware.resources.crossbars = limit;
    const std::int64_t without = timed(compiled(net, hardware, "stationary")).time_ps;
    INFO(limit << " crossbars");
    for (const CopyRule rule : {CopyRule::kGreedy, CopyRule::kLatency}) {
      const SimulatedTime with = timed(compiled(net, hardware, "stationary", rule));
      CHECK(with.time_ps <= without);
      CHECK(with.crossbars.parts <= limit);
    }
  }
}

TEST_CASE("Layers that overlap are never slower", "[programs]") {
  const unsigned seed = GENERATE(range(5000U, 5060U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  INFO("seed " << seed << "\n" << net.layers.dump());
  for (const std::int64_t crossbars : {1, 2, 5, 20, 200, 0}) {
    hardware.resources.crossbars.reset();
    if (crossbars > 0) hardware.resources.crossbars = crossbars;
    INFO(crossbars << " crossbars");
    const auto time_of = [&](const char* pipeline, CopyRule rule) {
      return timed(compiled(net, hardware, pipeline, rule)).time_ps;
    };
    const std::int64_t fastest = time_of("pipelined", CopyRule::kAny);
    for (const CopyRule rule : {CopyRule::kNone, CopyRule::kThroughput, CopyRule::kBalanced, CopyRule::kLatency}) {
      const std::int64_t series = time_of("stationary", rule);
      CHECK(fastest <= series);
      CHECK(time_of("pipelined", rule) <= series);
      if (crossbars == 1) CHECK(fastest == closed_form(read_layers(net.layers.dump()), hardware).time_ps);
    }
    const SimulatedTime time = timed(compiled(net, hardware, kRows.data()));
    CHECK(time.causes[Cause::kWrite] + time.causes[Cause::kMvm] == time.time_ps);
    CHECK(time.time_ps * time.crossbars.parts >= time.crossbars.busy_ps);
  }
}

TEST_CASE("Copies that cannot be are refused by layer and bound", "[programs]") {
  Draw draw(12);
  Hardware hardware = random_machine(draw);
  hardware.rows = hardware.cols = 2;
  hardware.resources.crossbars = 40;
  const RandomNet net(draw, hardware);
  const Graph graph = read_layers(net.layers.dump());
  const auto layer = std::ranges::find_if(graph.nodes, [](const Node& node) { return node.crossbar.has_value(); });
  const std::string name = layer->crossbar->layer_name;
  const std::int64_t vectors = layer->crossbar->invocations;
  const auto refused = [&](const Duplication& duplication, const std::string& part) {
    CHECK_THROWS_WITH(compiled(net, hardware, "stationary", duplication), Contains(part));
  };
  refused(std::map<std::string, std::int64_t>{{"other", 1}}, "the network has no crossbar layer 'other'");
  refused(std::map<std::string, std::int64_t>{{name, vectors + 1}},
          "layer '" + name + "': copies must be from 1 to " + std::to_string(vectors));
  refused(std::map<std::string, std::int64_t>{{name, 0}}, "layer '" + name + "': copies must be from 1 to");
  const std::int64_t tiles = tile_layer(hardware, *layer->crossbar).tiles();
  hardware.resources.crossbars = tiles;
  REQUIRE(vectors > 1);
  refused(std::map<std::string, std::int64_t>{{name, 2}}, "layer '" + name + "': 2 copies of " + std::to_string(tiles) +
                                                              " crossbars each are more than the machine's " +
                                                              std::to_string(tiles) + "; at most 1");
  CHECK_THROWS_WITH(compiled(net, hardware, "closed_form", CopyRule::kGreedy), Contains("the pipeline 'stationary'"));
}

TEST_CASE("Placing knows the time that its program takes", "[programs]") {
  const unsigned seed = GENERATE(range(3000U, 3060U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  if (draw.one_in(2)) hardware.resources.parallel_writes = draw.between(1, 4);
  const RandomNet net(draw, hardware);
  INFO("seed " << seed << " " << hardware.to_json() << "\n" << net.layers.dump());
  const Duplication copies = random_copies(net, hardware, draw);
  const Module module = compiled(net, hardware, "stationary", draw.one_in(2) ? Duplication(CopyRule::kNone) : copies);
  PoolMachine machine{0, picoseconds(hardware.timing.write_time_us), hardware.resources.parallel_writes.value_or(0)};
  std::vector<LayerLoad> loads;
  std::vector<std::int64_t> resident;
  for (std::size_t i = 0; i < module.tiles->size(); ++i) {
    const CrossbarLayer& layer = crossbar_of(module.graph.nodes[(*module.tiles)[i].node]);
    const LayerTiling& tiling = (*module.tiles)[i].tiling;
    const LayerPlacement& placement = (*module.placement)[i];
    loads.push_back({tiling.tiles(), layer.repeats, layer.invocations, vector_time(layer, hardware), placement.copies});
    CHECK(placement.copies == (*module.copies)[i]);
    resident.push_back(placement.resident);
    machine.pool = std::max(machine.pool, static_cast<std::int64_t>(placement.crossbars.size()));
    // Where the placement says that a tile is, no other is at the same time if it stays.
    for (std::int64_t g = 0; g < layer.repeats; ++g) {
      for (std::int64_t t = 0; t < tiling.tiles() * placement.copies; ++t) {
        const std::int64_t crossbar =
            placement.crossbar_of(g, t % tiling.tiles(), layer.repeats, tiling.tiles(), t / tiling.tiles());
        CHECK((g * tiling.tiles() * placement.copies + t < placement.resident) == (crossbar >= machine.pool));
      }
    }
  }
  CHECK(time_in_rounds(machine, loads, resident) == static_cast<std::uint64_t>(timed(module).time_ps));
}

TEST_CASE("More write ports never slow a program down", "[programs]") {
  Draw draw(7);
  Hardware hardware = random_machine(draw);
  hardware.rows = 2;
  hardware.cols = 4;
  hardware.resources.crossbars = 8;
  const RandomNet net(draw, hardware);
  const Module module = compiled(net, hardware, "stationary");
  Program program = *module.program;
  std::int64_t before = INT64_MAX;
  for (const std::int64_t ports : {1, 2, 3, 8, 100}) {
    program.hardware.resources.parallel_writes = ports;
    const std::int64_t time = simulate(program, module.graph).time_ps;
    CHECK(time <= before);
    before = time;
  }
  program.hardware.resources.parallel_writes.reset();
  CHECK(simulate(program, module.graph).time_ps == before);
}
