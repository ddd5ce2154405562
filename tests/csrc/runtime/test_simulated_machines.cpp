// Random networks on random machines: what the time of a program must be between, and what may not make it longer.
#include <algorithm>
#include <catch2/catch.hpp>

#include "compiler/cost/durations.h"
#include "compiler/cost/energy.h"
#include "compiler/cost/network.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/passes/pipeline.h"
#include "compiler/sim/simulate.h"
#include "runtime/random_net.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Hardware;

namespace {

Module compiled(const RandomNet& net, const Hardware& hardware, const std::string& pipeline) {
  Context context;
  if (pipeline == "pipelined") context.duplication = CopyRule::kAny;
  return compile_graph(read_layers(net.layers.dump()), hardware, pipeline_named(pipeline), context);
}

SimulatedTime timed(const Module& module) { return simulate(*module.program, module.graph); }

std::string some_pipeline(Draw& draw) {
  const std::vector<std::string> names = {"closed_form", "stationary", "pipelined"};
  return names[static_cast<std::size_t>(draw.between(0, 2))];
}

/// Converters, ports, bus and vector lanes; each may be without limit.
void limit(Hardware& hw, Draw& draw) {
  if (!draw.one_in(3)) hw.timing.adc_time_us = 0.1 * draw.between(1, 9);
  if (!draw.one_in(3)) hw.resources.adcs_per_crossbar = draw.between(1, 4);
  if (draw.one_in(2)) hw.resources.parallel_writes = draw.between(1, 3);
  if (!draw.one_in(3)) hw.resources.bus_bytes_per_us = draw.of({1, 3, 50});
  if (!draw.one_in(3)) hw.timing.vector_time_us = 0.1 * draw.between(1, 5);
  if (!draw.one_in(3)) hw.resources.vector_lanes = draw.between(1, 5);
}

}  // namespace

TEST_CASE("The time of a program is accounted for, and no resource is used for longer", "[simulate]") {
  const unsigned seed = GENERATE(range(4000U, 4092U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, seed >= 4080U);
  limit(hardware, draw);
  const std::string pipeline = some_pipeline(draw);
  Module module = compiled(net, hardware, pipeline);
  INFO("seed " << seed << " " << pipeline << " " << hardware.to_json() << "\n" << net.layers.dump());
  Program& program = *module.program;
  const std::int64_t enough = timed(module).buffer_bytes;
  if (draw.one_in(2)) program.hardware.resources.buffer_bytes = enough + draw.between(0, 40);
  const SimulatedTime time = timed(module);
  CHECK(time.causes.total() == time.time_ps);
  std::int64_t sum = time.between_layers.total();
  for (const SimulatedLayer& layer : time.layers) sum += layer.critical.total();
  CHECK(sum == time.time_ps);
  for (const ResourceUse& use : {time.crossbars, time.write_ports, time.bus_in, time.bus_out, time.vector_unit}) {
    if (use.parts > 0) CHECK(use.busy_ps <= time.time_ps * use.parts);
  }
  CHECK(time.buffer_bytes == enough);
  // At least the longest chain of instructions, which wait for nothing but one another; layers in series also all
  // vectors through a crossbar as wide as the widest tile.
  Module alone = module;
  alone.program->hardware.resources = {};
  const SimulatedTime least = timed(alone);
  CHECK(time.time_ps >= least.time_ps);
  CHECK(least.causes[Cause::kStall] == 0);
  std::int64_t serial = 0;
  for (const TiledLayer& tiled : *module.tiles) {
    const CrossbarLayer& layer = crossbar_of(module.graph.nodes[tiled.node]);
    const std::int64_t lines =
        converted_lines(hardware, 0, std::min<std::int64_t>(tiled.tiling.columns, hardware.cols));
    serial += layer.repeats * layer.invocations * tiled.tiling.digits * digit_time(hardware, lines).step_ps();
  }
  if (pipeline != "pipelined") CHECK(time.time_ps >= serial);
  // The smallest buffer is the smallest.
  program.hardware.resources.buffer_bytes = enough;
  CHECK(timed(module).time_ps >= time.time_ps);
  program.hardware.resources.buffer_bytes = enough - 1;
  CHECK_THROWS_WITH(timed(module), Contains("resources.buffer_bytes is " + std::to_string(enough - 1)));
}

TEST_CASE("More of a resource, or a faster one, never slows a program down", "[simulate]") {
  const unsigned seed = GENERATE(range(5000U, 5072U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, seed >= 5060U);
  limit(hardware, draw);
  Module module = compiled(net, hardware, some_pipeline(draw));
  Hardware& hw = module.program->hardware;
  hw.resources.buffer_bytes = timed(module).buffer_bytes + draw.between(0, 20);
  INFO("seed " << seed << " " << hw.to_json() << "\n" << net.layers.dump());
  const Hardware base = hw;
  const std::int64_t before = timed(module).time_ps;
  const auto check_better = [&](const char* what, const auto& change) {
    hw = base;
    change(hw);
    INFO(what << ": " << hw.to_json());
    CHECK(timed(module).time_ps <= before);
  };
  const auto more = [&](std::optional<std::int64_t>& count) {
    if (count) *count += draw.between(1, 5);
  };
  check_better("converters", [&](Hardware& h) { more(h.resources.adcs_per_crossbar); });
  check_better("a converter for every line", [](Hardware& h) { h.resources.adcs_per_crossbar.reset(); });
  check_better("write ports", [&](Hardware& h) { more(h.resources.parallel_writes); });
  check_better("ports without limit", [](Hardware& h) { h.resources.parallel_writes.reset(); });
  check_better("buffer", [&](Hardware& h) { more(h.resources.buffer_bytes); });
  check_better("buffer without limit", [](Hardware& h) { h.resources.buffer_bytes.reset(); });
  check_better("vector lanes", [&](Hardware& h) { more(h.resources.vector_lanes); });
  check_better("lanes without limit", [](Hardware& h) { h.resources.vector_lanes.reset(); });
  check_better("bus", [](Hardware& h) {
    if (h.resources.bus_bytes_per_us) *h.resources.bus_bytes_per_us *= 1.5;
  });
  check_better("bus without limit", [](Hardware& h) { h.resources.bus_bytes_per_us.reset(); });
  check_better("faster cells", [](Hardware& h) { h.timing.mvm_time_us *= 0.7; });
  check_better("faster writes", [](Hardware& h) { h.timing.write_time_us *= 0.7; });
  check_better("faster converters", [](Hardware& h) {
    if (h.timing.adc_time_us) *h.timing.adc_time_us *= 0.7;
  });
  check_better("faster lanes", [](Hardware& h) {
    if (h.timing.vector_time_us) *h.timing.vector_time_us *= 0.7;
  });
}

TEST_CASE("A program does what the closed form of energy counts", "[simulate]") {
  const unsigned seed = GENERATE(range(6000U, 6030U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  hardware.resources.crossbars.reset();
  // One femtojoule for every event: energies are counts.
  hardware.energy = {0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001};
  const RandomNet net(draw, hardware);
  const Module module = compiled(net, hardware, "stationary");
  const SimulatedTime time = timed(module);
  INFO("seed " << seed << " " << hardware.to_json() << "\n" << net.layers.dump());
  std::size_t number = 0;
  for (const Node& node : module.graph.nodes) {
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    auto counts = energy(hardware, latency_shape(layer), layer.weight_bits, layer.act_bits).part_fj;
    counts[static_cast<std::size_t>(EnergyPart::kWrite)] = 0;  // tiles stay
    CHECK(time.layers[number++].events == counts);
  }
}
