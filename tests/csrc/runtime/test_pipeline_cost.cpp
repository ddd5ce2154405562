// Costs of policies from timelines against compiling and simulating: random networks, machines and policies.
#include <algorithm>
#include <catch2/catch.hpp>

#include "common/error.h"
#include "compiler/feedback/pipeline_cost.h"
#include "compiler/frontends/layers_json.h"
#include "runtime/random_net.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Hardware;

namespace {

std::vector<LayerWidths> random_policy(Draw& draw, std::size_t layers) {
  std::vector<LayerWidths> bits;
  for (std::size_t i = 0; i < layers; ++i) bits.emplace_back(draw.between(1, 8), draw.between(1, 8));
  return bits;
}

CopyRule random_rule(Draw& draw, bool pipelined) {
  const auto most = static_cast<int>(pipelined ? CopyRule::kAny : CopyRule::kLatency);
  return static_cast<CopyRule>(draw.between(0, most));
}

void check_equal(const ProgramCost& found, const ProgramCost& expected) {
  CHECK(found.time_ps == expected.time_ps);
  CHECK(found.events == expected.events);
  CHECK(found.chosen == expected.chosen);
}

}  // namespace

TEST_CASE("Timelines give the time and the events of the simulated program", "[feedback]") {
  const unsigned seed = GENERATE(range(7000U, 7150U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  if (draw.one_in(2)) hardware.timing.adc_time_us = 0.1 * draw.between(1, 30);
  if (draw.one_in(2)) hardware.resources.adcs_per_crossbar = draw.between(1, 4);
  if (draw.one_in(2)) hardware.resources.parallel_writes = draw.between(1, 3);
  if (draw.one_in(4)) hardware.cols += 1;  // pairs lie across the borders of tiles
  const RandomNet net(draw, hardware, draw.one_in(3));
  const bool pipelined = draw.one_in(2);
  const CopyRule rule = random_rule(draw, pipelined);
  PipelineCost cost(read_layers(net.layers.dump()), hardware, pipelined ? "pipelined" : "stationary", rule);
  REQUIRE(cost.fast());
  for (int i = 0; i < 4; ++i) {  // the later ones find things that are kept
    const std::vector<LayerWidths> bits = random_policy(draw, cost.layer_names().size());
    INFO("seed " << seed << ", policy " << i << ", " << pipelined << ", rule " << name_of(rule) << " "
                 << hardware.to_json() << "\n"
                 << net.layers.dump());
    check_equal(cost.cost(bits), cost.simulated(bits));
  }
}

TEST_CASE("Machines with a bus, a vector unit or a buffer are simulated", "[feedback]") {
  const unsigned seed = GENERATE(range(7200U, 7210U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  const Graph graph = read_layers(net.layers.dump());
  const std::vector<LayerWidths> bits =
      random_policy(draw, PipelineCost(graph, hardware, "stationary", CopyRule::kNone).layer_names().size());
  const std::int64_t alone = PipelineCost(graph, hardware, "pipelined", CopyRule::kAny).cost(bits).time_ps;
  const auto slow = [&](const Hardware& machine) {
    PipelineCost cost(graph, machine, "pipelined", CopyRule::kAny);
    CHECK_FALSE(cost.fast());
    check_equal(cost.cost(bits), cost.simulated(bits));
    return cost.cost(bits).time_ps;
  };
  Hardware other = hardware;
  other.resources.bus_bytes_per_us = 1.0;
  CHECK(slow(other) > alone);
  other = hardware;
  other.timing.vector_time_us = 0.5;
  CHECK(slow(other) > alone);
  other = hardware;
  other.resources.buffer_bytes = 1 << 20;
  CHECK(slow(other) == alone);
  other.resources.buffer_bytes = 1;
  CHECK_THROWS_WITH(slow(other), Contains("resources.buffer_bytes is 1"));
}

TEST_CASE("Bits of the same kind cost the same, whatever the other layers have", "[feedback]") {
  const unsigned seed = GENERATE(range(7300U, 7330U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  if (draw.one_in(2)) hardware.timing.adc_time_us = 0.1 * draw.between(1, 30);
  const bool slow = draw.one_in(3);
  if (slow) hardware.resources.bus_bytes_per_us = 1.0;
  const RandomNet net(draw, hardware, draw.one_in(3));
  PipelineCost cost(read_layers(net.layers.dump()), hardware, "stationary", random_rule(draw, false));
  std::vector<LayerWidths> bits = random_policy(draw, cost.layer_names().size());
  const bool with_energy = draw.one_in(2);
  const auto kinds = cost.kinds(0, with_energy);
  std::vector<std::optional<ProgramCost>> seen(64);
  for (int w = 1; w <= 8; ++w) {
    for (int a = 1; a <= 8; ++a) {
      bits[0] = {w, a};
      const ProgramCost now = cost.cost(bits);
      auto& first =
          seen[static_cast<std::size_t>(kinds[static_cast<std::size_t>(w - 1)][static_cast<std::size_t>(a - 1)])];
      if (!first) {
        first = now;
        continue;
      }
      CHECK(first->time_ps == now.time_ps);
      if (with_energy || slow) CHECK(first->events == now.events);
    }
  }
}

TEST_CASE("Costs of policies are asked for in order", "[feedback]") {
  Draw draw(1);
  const Hardware hardware;
  const RandomNet net(draw, hardware);
  const Graph graph = read_layers(net.layers.dump());
  CHECK_THROWS_WITH(PipelineCost(graph, hardware, "closed_form", CopyRule::kNone),
                    Contains("stationary and pipelined, got 'closed_form'"));
  CHECK_THROWS_WITH(PipelineCost(graph, hardware, "stationary", CopyRule::kAny), Contains("needs the pipeline"));
  PipelineCost cost(graph, hardware, "stationary", CopyRule::kNone);
  std::vector<LayerWidths> bits(cost.layer_names().size(), {4, 4});
  bits.back() = {9, 4};
  CHECK_THROWS_WITH(cost.cost(bits), Contains("bits must be from 1 to 8, got (9, 4)"));
  bits.pop_back();
  CHECK_THROWS_WITH(cost.cost(bits), Contains("layers, got " + std::to_string(bits.size())));
  // With 4-bit cells weights of 5 bits fill as many as those of 8; every bit of an input is a digit.
  const auto kinds = cost.kinds(0, true);
  CHECK(kinds[4][3] == kinds[7][3]);
  CHECK(kinds[4][3] != kinds[4][4]);
  CHECK_THROWS_WITH(cost.kinds(bits.size() + 1, false), Contains("got the number"));
}
