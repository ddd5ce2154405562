#include <algorithm>
#include <catch2/catch.hpp>

#include "common/error.h"
#include "compiler/cost/network.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/passes/pipeline.h"
#include "compiler/program_lines.h"
#include "compiler/verify/program.h"
#include "runtime/bundle_fixture.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Hardware;
using cimq::Mapping;

namespace {

Graph small_net() { return read_layers(cimq::test::layers_of_small_net().dump()); }

Hardware machine(Mapping mapping, int rows, int cols, int cell_bits, int dac_bits) {
  Hardware hardware;
  hardware.mapping = mapping;
  hardware.rows = rows;
  hardware.cols = cols;
  hardware.cell_bits = cell_bits;
  hardware.dac_bits = dac_bits;
  return hardware;
}

void refused(const std::vector<std::string>& lines, const char* part) {
  CHECK_THROWS_WITH(verify_program(read_program(text_of(lines)), small_net()), Contains(part));
}

}  // namespace

TEST_CASE("Writes and MVMs of a program equal the closed form", "[program]") {
  const Graph graph = small_net();
  for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kDifferentialRow, Mapping::kOffset}) {
    for (const auto& [rows, cols] : std::vector<std::pair<int, int>>{{256, 256}, {8, 4}, {3, 5}, {2, 1}, {7, 64}}) {
      for (const int cell_bits : {1, 2, 4}) {
        for (const std::optional<std::int64_t> crossbars :
             {std::optional<std::int64_t>(1), std::optional<std::int64_t>(3), std::optional<std::int64_t>()}) {
          Hardware hardware = machine(mapping, rows, cols, cell_bits, 2);
          hardware.resources.crossbars = crossbars;
          const Module compiled = compile_graph(graph, hardware);
          std::int64_t writes = 0;
          std::int64_t mvms = 0;
          for (const Node& node : graph.nodes) {
            if (!node.crossbar) continue;
            const Tier1Cost cost =
                tier1(hardware, latency_shape(*node.crossbar), node.crossbar->weight_bits, node.crossbar->act_bits);
            writes += cost.writes;
            mvms += cost.mvms;
          }
          // The verifier counts by walking the program as it was read back.
          const ProgramCounts counts = verify_program(read_program(write_program(*compiled.program)), graph);
          CHECK(counts.writes == writes);
          CHECK(counts.mvms == mvms);
        }
      }
    }
  }
}

TEST_CASE("Tiles cover the matrix of a layer once", "[program]") {
  const CrossbarLayer layer{"l", 0, 5, 8, false, 7, 11, 3, 1};
  const Hardware hardware = machine(Mapping::kDifferentialColumn, 4, 6, 2, 1);
  const LayerTiling tiling = tile_layer(hardware, layer);
  CHECK(tiling.slices == 3);
  CHECK(tiling.digits == 8);
  CHECK(tiling.rows == 11);
  CHECK(tiling.columns == 2 * 7 * 3);
  std::vector<int> seen(static_cast<std::size_t>(tiling.rows * tiling.columns));
  for (std::int64_t number = 0; number < tiling.tiles(); ++number) {
    const isa::Region tile = tiling.region(number);
    CHECK(tile.row_end - tile.row_begin <= 4);
    CHECK(tile.column_end - tile.column_begin <= 6);
    for (auto r = tile.row_begin; r < tile.row_end; ++r) {
      for (auto c = tile.column_begin; c < tile.column_end; ++c)
        ++seen[static_cast<std::size_t>(r * tiling.columns + c)];
    }
  }
  CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
}

TEST_CASE("A program survives being written and read", "[program]") {
  const Module compiled = compile_graph(small_net(), machine(Mapping::kOffset, 8, 8, 2, 1));
  const std::string text = write_program(*compiled.program);
  CHECK(write_program(read_program(text)) == text);
}

TEST_CASE("Loops are counted, not unrolled", "[program]") {
  auto layers = cimq::test::layers_of_small_net();
  const auto size = lines_of(write_program(*compile_graph(read_layers(layers.dump()), Hardware{}).program)).size();
  CHECK(size < 30);
}

TEST_CASE("The verifier refuses programs that do something else", "[program]") {
  const auto lines =
      lines_of(write_program(*compile_graph(small_net(), machine(Mapping::kDifferentialColumn, 8, 8, 4, 1)).program));
  CHECK_NOTHROW(verify_program(read_program(text_of(lines)), small_net()));
  const auto without = [&](const std::string& part) {
    auto fewer = lines;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(find_line(lines, part)));
    return fewer;
  };
  refused(without("\"WRITE\""), "does not hold tile 0 of layer 0");
  refused(without("\"MVM\""), "");
  refused(without("\"QUANT\""), "'conv.x_q' is read before it is computed");
  refused(without("\"IM2COL\""), "'conv.vector' is read before it is computed");
  refused(without("\"SHADD\""), "'conv.y' is read before it is computed");
  refused(without("\"REQ\""), "'conv' is read before it is computed");
  refused(without("\"relu\""), "'relu' is read before it is computed");
  refused(without("\"CFG\""), "layer 0 has no CFG before");
  refused(without("\"LOOP\""), "");
  refused(without("\"END\""), "has no END");
  refused(changed(lines, "\"MVM\"", "\"digits\":[0,5]", "\"digits\":[0,4]"), "sees a digit 0 times");
  refused(changed(lines, "\"MVM\"", "\"digits\":[0,5]", "\"digits\":[0,6]"), "digits must lie in [0, 5)");
  refused(changed(lines, "\"MVM\"", "\"tile\":0", "\"tile\":1"), "tiles, got number 1");
  refused(changed(lines, "\"MVM\"", "\"crossbar\":0", "\"crossbar\":1"), "crossbar 1 does not hold");
  refused(changed(lines, "\"WRITE\"", "\"columns\":[0,", "\"columns\":[1,"), "must be rows");
  refused(changed(lines, "\"WRITE\"", "\"tile\":0", "\"tile\":99"), "tiles, got number 99");
  refused(changed(lines, "\"WRITE\"", "\"crossbar\":0", "\"crossbar\":1"), "the hardware has 1 crossbars");
  refused(changed(lines, "\"var\":\"p\"", "\"count\":20", "\"count\":19"), "instead of 40");
  refused(changed(lines, "\"var\":\"p\"", "\"var\":\"p\"", "\"var\":\"g\""), "must be new");
  refused(changed(lines, "\"CFG\"", "\"weight_bits\":4", "\"weight_bits\":3"), "CFG does not describe layer 'conv'");
  refused(changed(lines, "\"QUANT\"", "\"hi\":15", "\"hi\":31"), "must be that of 5 bits");
  refused(changed(lines, "\"SHADD\"", "\"shifts\":[0]", "\"shifts\":[1]"), "one multiple of 4 per slice");
  refused(changed(lines, "\"VEC\"", "\"relu\"", "\"clamp\""), "is computed by relu");
  refused(changed(lines, "\"PROGRAM\"", "\"writes\":", "\"writes\":1"), "line 1 states");
  refused(changed(lines, "\"PROGRAM\"", "\"output\":\"fc\"", "\"output\":\"flat\""), "output must be 'fc'");
  refused(changed(lines, "\"PROGRAM\"", "\"version\":\"1.", "\"version\":\"2."), "version 1.x");
  refused(changed(lines, "\"REQ\"", "\"dst\":\"conv\"", "\"dst\":\"fc\""), "dst must be 'conv'");
}

TEST_CASE("The instruction that re-scales carries the zero point of an input", "[program]") {
  auto layers = cimq::test::layers_of_small_net();
  layers["nodes"][0]["act_signed"] = false;
  layers["nodes"][0]["act_zero"] = -3;
  const Graph graph = read_layers(layers.dump());
  const std::string text = write_program(*compile_graph(graph, Hardware{}).program);
  CHECK(write_program(read_program(text)) == text);
  CHECK_NOTHROW(verify_program(read_program(text), graph));
  const auto lines = lines_of(text);
  CHECK_THAT(lines[find_line(lines, "\"REQ\"")], Contains(R"("zero":-3,"weight":"conv.weight")"));
  CHECK(std::count_if(lines.begin(), lines.end(), [](const auto& l) { return l.find("\"zero\"") != l.npos; }) == 2);
  const auto refused_here = [&](const std::string& from, const std::string& to, const char* part) {
    CHECK_THROWS_WITH(verify_program(read_program(text_of(changed(lines, "\"REQ\"", from, to))), graph),
                      Contains(part));
  };
  refused_here(",\"zero\":-3,\"weight\":\"conv.weight\"", "", "zero must be -3, got 0");
  refused_here("\"zero\":-3", "\"zero\":-2", "zero must be -3, got -2");
  refused_here("\"conv.weight\"", "\"fc.weight\"", "weight must be 'conv.weight'");
  refused_here(",\"weight\":\"conv.weight\"", "", "'weight' is missing");
}

TEST_CASE("A tile overwritten in a loop is noticed in its second iteration", "[program]") {
  // Two tiles share crossbar 0; moving the second WRITE into the loop of the first leaves iteration 2 wrong.
  const auto lines =
      lines_of(write_program(*compile_graph(small_net(), machine(Mapping::kDifferentialColumn, 3, 256, 4, 1)).program));
  auto moved = lines;
  const std::size_t write = find_line(lines, "\"tile\":1");
  const std::string second = moved[write];
  moved.erase(moved.begin() + static_cast<std::ptrdiff_t>(write));
  moved.insert(moved.begin() + static_cast<std::ptrdiff_t>(write) - 1, second);  // before the END of tile 0's loop
  refused(moved, "does not hold tile 0");
}

TEST_CASE("Damaged program files are refused with their line", "[program]") {
  const std::string text = write_program(*compile_graph(small_net(), Hardware{}).program);
  CHECK_THROWS_WITH(read_program(""), Contains("the file is empty"));
  CHECK_THROWS_WITH(read_program(text.substr(0, text.size() - 1)), Contains("cut short"));
  CHECK_THROWS_WITH(read_program(text + "{}\n"), Contains("'op' is missing"));
  CHECK_THROWS_WITH(read_program(text + "{\"op\":\"HALT\"}\n"), Contains("unknown op 'HALT'"));
  CHECK_THROWS_WITH(read_program(text + "{\"op\":\"END\",\"x\":1}\n"), Contains("unknown key 'x'"));
  CHECK_THROWS_WITH(read_program("{\"op\":\"END\"}\n"), Contains("line 1: the first line must be PROGRAM"));
  for (std::size_t length = 0; length < text.size(); length += 5) {
    CHECK_THROWS_AS(verify_program(read_program(text.substr(0, length)), small_net()), cimq::Error);
  }
}
