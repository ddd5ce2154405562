// Programs that compute several samples, of random networks on random machines by every pipeline.
#include <catch2/catch.hpp>

#include "compiler/cost/network.h"
#include "compiler/cost/rounds.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/passes/loads.h"
#include "runtime/executor.h"
#include "runtime/random_programs.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Executor;
using cimq::Hardware;
using cimq::runtime::Interpreter;

TEST_CASE("A program of a batch computes what the executor computes for every sample", "[batch]") {
  const unsigned seed = GENERATE(range(8000U, 8060U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, seed >= 8040U);
  const std::int64_t batch = draw.of({2, 3, 5});
  INFO("seed " << seed << " batch " << batch << " " << hardware.to_json() << "\n" << net.layers.dump());
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  // Full batches, and one that is not.
  const auto x = net.sample(draw.between(1, static_cast<int>(2 * batch + 1)));
  const cimq::runtime::RunResult wanted = Executor::load(folder.path()).run_layers(x);
  const Duplication copies = random_copies(net, hardware, draw);
  for (const auto& [pipeline, duplication] : ways(copies)) {
    const Module module = compiled(net, hardware, pipeline, duplication, batch);
    CHECK(check_program(module, folder.path(), x, wanted).batch == batch);
  }
}

TEST_CASE("A changed program of a batch is refused, or computes the same", "[batch]") {
  const unsigned seed = GENERATE(range(8200U, 8224U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, seed >= 8212U);
  const std::int64_t batch = draw.of({2, 3});
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  const auto x = net.sample(batch + 1);
  const cimq::runtime::RunResult wanted = Executor::load(folder.path()).run_layers(x);
  const Duplication copies = random_copies(net, hardware, draw);
  INFO("seed " << seed);
  for (const auto& [pipeline, duplication] : ways(copies)) {
    check_changed(compiled(net, hardware, pipeline, duplication, batch), folder.path(), x, wanted, draw);
  }
}

TEST_CASE("On one crossbar a batch takes its writes once and its MVMs for every sample", "[batch]") {
  const unsigned seed = GENERATE(range(8300U, 8340U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  hardware.resources.crossbars = 1;
  const RandomNet net(draw, hardware, seed >= 8320U);
  const Graph graph = read_layers(net.layers.dump());
  INFO("seed " << seed << "\n" << net.layers.dump());
  const NetworkCost one = closed_form(graph, hardware);
  for (const std::int64_t batch : {1, 2, 3, 5}) {
    const NetworkCost cost = closed_form(graph, hardware, batch);
    CHECK(cost.mvms == batch * one.mvms);
    if (seed < 8320U) CHECK(cost.writes == one.writes);
    for (const char* pipeline : {"closed_form", "stationary", "pipelined"}) {
      INFO(pipeline << " batch " << batch);
      const Module module = compiled(net, hardware, pipeline, CopyRule::kNone, batch);
      const SimulatedTime time = timed(module);
      CHECK(module.program->counts.writes == cost.writes);
      CHECK(module.program->counts.mvms == cost.mvms);
      CHECK(time.time_ps == cost.writes * picoseconds(hardware.timing.write_time_us) +
                                cost.mvms * picoseconds(hardware.timing.mvm_time_us));
      CHECK(time.time_ps == cost.time_ps);
      CHECK(time.batch == batch);
    }
  }
}

TEST_CASE("A sample takes no longer in a batch than alone", "[batch]") {
  const unsigned seed = GENERATE(range(8400U, 8460U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  if (draw.one_in(2)) hardware.resources.parallel_writes = draw.between(1, 3);
  const RandomNet net(draw, hardware, seed >= 8445U);
  const Duplication copies = random_copies(net, hardware, draw);
  for (const auto& [pipeline, duplication] : ways(copies)) {
    const std::int64_t alone = timed(compiled(net, hardware, pipeline, duplication)).time_ps;
    for (const std::int64_t batch : {2, 3, 5}) {
      INFO("seed " << seed << " " << pipeline << " batch " << batch);
      const SimulatedTime time = timed(compiled(net, hardware, pipeline, duplication, batch));
      CHECK(time.time_ps <= batch * alone);
      CHECK(time.first_ps <= time.time_ps);
      CHECK(time.causes.total() == time.time_ps);
    }
  }
}

TEST_CASE("With the same tiles in the same crossbars a sample takes no longer the larger the batch", "[batch]") {
  const unsigned seed = GENERATE(range(8600U, 8660U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  if (draw.one_in(2)) hardware.resources.parallel_writes = draw.between(1, 3);
  const RandomNet net(draw, hardware);
  const Duplication copies = random_copies(net, hardware, draw);
  for (const auto& [pipeline, duplication] : ways(copies)) {
    if (pipeline == std::string_view("pipelined")) continue;  // it chooses anew
    Module module = compiled(net, hardware, pipeline, duplication);
    Context context;
    std::int64_t before = timed(module).time_ps;
    std::int64_t samples = 1;
    for (const std::int64_t batch : {2, 3, 5}) {
      module.batch = batch;
      const bool in_turn = pipeline == std::string_view("closed_form");
      const Pass lower = in_turn           ? lower_in_turn_pass()
                         : module.schedule ? lower_in_rows_pass()
                                           : lower_stationary_pass();
      run_pipeline({lower, verify_pass()}, module, context);
      const std::int64_t time = timed(module).time_ps;
      INFO("seed " << seed << " " << pipeline << " batch " << batch);
      CHECK(time * samples <= before * batch);
      before = time;
      samples = batch;
    }
  }
}

TEST_CASE("Placing knows the time that its program of a batch takes", "[batch]") {
  const unsigned seed = GENERATE(range(8500U, 8560U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  hardware.adc.bits.reset();
  if (draw.one_in(2)) hardware.resources.parallel_writes = draw.between(1, 4);
  const RandomNet net(draw, hardware);
  const std::int64_t batch = draw.of({2, 3, 5});
  INFO("seed " << seed << " batch " << batch << " " << hardware.to_json() << "\n" << net.layers.dump());
  const Duplication copies = draw.one_in(2) ? Duplication(CopyRule::kNone) : random_copies(net, hardware, draw);
  const Module module = compiled(net, hardware, "stationary", copies, batch);
  PoolMachine machine = pool_machine(hardware, batch);
  std::vector<LayerLoad> loads = loads_of(module);
  std::vector<std::int64_t> resident;
  for (std::size_t i = 0; i < loads.size(); ++i) {
    const LayerPlacement& placement = (*module.placement)[i];
    loads[i].copies = placement.copies;
    resident.push_back(placement.resident);
    machine.pool = std::max(machine.pool, static_cast<std::int64_t>(placement.crossbars.size()));
  }
  CHECK(time_in_rounds(machine, loads, resident) == static_cast<std::uint64_t>(timed(module).time_ps));
}

TEST_CASE("The time of a batch is accounted for, and its buffer is the smallest", "[batch]") {
  const unsigned seed = GENERATE(range(8700U, 8730U));
  Draw draw(seed);
  Hardware hardware = random_machine(draw);
  hardware.timing.adc_time_us = 0.1 * draw.between(1, 9);
  hardware.timing.vector_time_us = 0.1 * draw.between(1, 5);
  hardware.resources.adcs_per_crossbar = draw.between(1, 4);
  hardware.resources.vector_lanes = draw.between(1, 5);
  hardware.resources.bus_bytes_per_us = draw.of({1, 3, 50});
  const RandomNet net(draw, hardware, seed >= 8720U);
  const std::int64_t batch = draw.of({2, 3, 5});
  const Duplication copies = random_copies(net, hardware, draw);
  for (const auto& [pipeline, duplication] : ways(copies)) {
    INFO("seed " << seed << " " << pipeline << " batch " << batch);
    Module module = compiled(net, hardware, pipeline, duplication, batch);
    const SimulatedTime time = timed(module);
    std::int64_t sum = time.between_layers.total();
    for (const SimulatedLayer& layer : time.layers) sum += layer.critical.total();
    CHECK(sum == time.time_ps);
    for (const ResourceUse& use : {time.crossbars, time.bus_in, time.bus_out, time.vector_unit}) {
      CHECK(use.busy_ps <= time.time_ps * use.parts);
    }
    std::string trace;
    CHECK(simulate(*module.program, module.graph, trace).time_ps == time.time_ps);
    std::optional<std::int64_t>& bytes = module.program->hardware.resources.buffer_bytes;
    bytes = time.buffer_bytes;
    CHECK(timed(module).time_ps >= time.time_ps);
    bytes = time.buffer_bytes - 1;
    CHECK_THROWS_WITH(timed(module), Contains("resources.buffer_bytes is " + std::to_string(time.buffer_bytes - 1)));
  }
}

TEST_CASE("A batch that needs more memory than a run may take is refused", "[batch]") {
  Draw draw(8800);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  constexpr std::int64_t kSamples = 50'000;
  const Program program = *compiled(net, hardware, "stationary", CopyRule::kNone, kSamples).program;
  const Interpreter interpreter = Interpreter::load(folder.path(), program, {.max_working_bytes = 1'000'000});
  CHECK(interpreter.run_layers(net.sample(2)).output.shape[0] == 2);
  CHECK_THROWS_WITH(interpreter.run_layers(net.sample(kSamples)),
                    Contains("a batch of 50000 samples needs") && Contains("max_working_bytes"));
}
