// Networks of real size: the published counts and times, and machines with more crossbars.
#include <catch2/catch.hpp>
#include <optional>

#include "compiler/cost/network.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/paper_networks.h"
#include "compiler/passes/pipeline.h"
#include "compiler/sim/simulate.h"

using namespace cimq::compiler;
using cimq::Hardware;
using cimq::Mapping;
using nlohmann::json;

namespace {

Hardware machine_of(const json& policy, const std::string& mapping) {
  Hardware hardware;  // 256 x 256, 1-bit inputs, 56 us, 1.4 us, one crossbar
  hardware.cell_bits = policy["cell_bits"];
  hardware.mapping = mapping == "offset"             ? Mapping::kOffset
                     : mapping == "differential_row" ? Mapping::kDifferentialRow
                                                     : Mapping::kDifferentialColumn;
  return hardware;
}

Program compiled(const Graph& graph, const Hardware& hardware, const char* pipeline) {
  Context context;
  return *compile_graph(graph, hardware, pipeline_named(pipeline), context).program;
}

}  // namespace

TEST_CASE("Published policies: the program's counts, and its time event by event on one crossbar", "[paper]") {
  const json data = cimq::test::paper_policies();
  for (const json& policy : data["policies"]) {
    const Graph graph = cimq::test::chain_of(data["layers"][std::string(policy["model"])], policy["policy"]);
    for (const auto& [mapping, expected] : policy["expected"].items()) {
      INFO(policy["name"] << " " << mapping);
      const Program program = compiled(graph, machine_of(policy, mapping), "closed_form");
      CHECK(program.counts.writes == expected["writes"].get<std::int64_t>());
      CHECK(program.counts.mvms == expected["mvms"].get<std::int64_t>());
      const SimulatedTime time = simulate(program, graph);
      CHECK(time.time_ps == picoseconds(expected["time_us"].get<double>()));
      CHECK(time.crossbars.parts == 1);
    }
  }
}

TEST_CASE("More crossbars never take longer, and the program stays small", "[paper]") {
  const json data = cimq::test::paper_policies();
  for (const json& policy : data["policies"]) {
    if (policy["name"].get<std::string>().find("both") == std::string::npos) continue;
    const Graph graph = cimq::test::chain_of(data["layers"][std::string(policy["model"])], policy["policy"]);
    Hardware hardware = machine_of(policy, "differential_column");
    std::int64_t serial = 0;
    for (const Node& node : graph.nodes) {
      const CrossbarLayer& layer = crossbar_of(node);
      serial += layer.repeats * layer.invocations * layer.act_bits * picoseconds(hardware.timing.mvm_time_us);
    }
    std::int64_t before = INT64_MAX;
    for (const std::int64_t crossbars : {1, 4, 16, 64, 256, 1024, 4096, 0}) {
      hardware.resources.crossbars.reset();
      if (crossbars > 0) hardware.resources.crossbars = crossbars;
      const Program program = compiled(graph, hardware, "stationary");
      const SimulatedTime time = simulate(program, graph);
      INFO(policy["name"] << ", " << crossbars << " crossbars: " << time.time_ps << " ps");
      CHECK(time.time_ps <= before);
      CHECK(time.time_ps >= serial);
      if (crossbars == 1) CHECK(time.time_ps == closed_form(graph, hardware).time_ps);
      if (crossbars == 0) CHECK(time.time_ps == serial);
      CHECK(write_program(program).size() < 40'000);
      before = time.time_ps;
    }
  }
}
