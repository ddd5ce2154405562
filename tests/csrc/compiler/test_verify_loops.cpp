// What the verifier makes of loops: any order that does the work is right, and what does not is refused by its line.
#include <catch2/catch.hpp>
#include <utility>

#include "common/error.h"
#include "compiler/ir/graph.h"
#include "compiler/layer_bench.h"
#include "compiler/verify/program.h"

using namespace cimq::compiler;
using namespace cimq::compiler::isa;
using Catch::Matchers::Contains;

namespace {

using Code = std::vector<Instruction>;

struct Bench : cimq::test::LayerBench {
  using LayerBench::LayerBench;

  /// CFG before READY or at the beginning, QUANT, the code, REQ.
  void set(const Code& code, const Code& setup = {}) {
    const std::int64_t groups = graph.nodes[0].crossbar->repeats;
    program.code = {Configure{0, "n", "l", 4, 4, false, 3, 5, 6, groups, 1, 4, 2, 1}};
    program.code.insert(program.code.end(), setup.begin(), setup.end());
    if (!setup.empty()) program.code.emplace_back(Ready{});
    program.code.emplace_back(Quantize{0, "x", "q", "s", 0, 15, 0});
    program.code.insert(program.code.end(), code.begin(), code.end());
    program.code.emplace_back(Requantize{0, "y", "n", "m", "b", 0, ""});
  }
  void accepts(const Code& code, const ProgramCounts& counts, const Code& setup = {}) {
    set(code, setup);
    program.counts = counts;
    CHECK(verify_program(program, graph) == counts);
  }
  /// At the line of `code[at]`.
  void refuses(const Code& code, std::size_t at, const char* part, const Code& setup = {}) {
    set(code, setup);
    const std::size_t before = 2 + (setup.empty() ? 0 : setup.size() + 1);
    CHECK_THROWS_WITH(verify_program(program, graph),
                      Contains(cimq::message(line_of(before + at), ":")) && Contains(part));
  }
};

Index p(std::int64_t base = 0, std::int64_t stride = 1) { return {base, {{"p", stride}}}; }
const Index kG = counted("g");

Write write(std::int64_t tile, std::int64_t crossbar, const Index& group = {}) {
  return {0, {tile, {}}, {crossbar, {}}, std::nullopt, "w", group};
}
Gather gather(const Index& at, const Index& group = {}) { return {0, "q", "v", at, group}; }
Mvm mvm(std::int64_t tile, std::int64_t crossbar, const Index& at, const Index& group = {}, std::int64_t begin = 0,
        std::int64_t end = 4) {
  return {0, {tile, {}}, {crossbar, {}}, "v", "acc", at, group, begin, end};
}
ShiftAdd sum(std::optional<Index> at = {}, std::optional<Index> group = {}) {
  return {0, "acc", "y", std::move(at), std::move(group), {0}};
}
Loop loop(const char* variable, std::int64_t count) { return {variable, count}; }
const End kEnd{};

}  // namespace

TEST_CASE("Any order of instructions that makes every product once is right", "[verify]") {
  Bench bench;
  const ProgramCounts counts{2, 48, 0};
  // All tiles see a vector, which is added up at once.
  bench.accepts({write(0, 0), write(1, 5), loop("p", 6), gather(p()), mvm(0, 0, p()), mvm(1, 5, p()), sum(p()), kEnd},
                counts);
  // Tile by tile; the second in halves, the later half first.
  bench.accepts({write(0, 0), loop("p", 6), gather(p()), mvm(0, 0, p()), kEnd, write(1, 0), loop("p", 3), gather(p(3)),
                 mvm(1, 0, p(3)), kEnd, loop("p", 3), gather(p()), mvm(1, 0, p()), kEnd, sum()},
                counts);
  // Two vectors in a body, and digits by themselves, from the top.
  bench.accepts(
      {write(0, 0), write(1, 1), loop("p", 3), gather(p(1, 2)), mvm(0, 0, p(1, 2)), mvm(1, 1, p(1, 2)), gather(p(0, 2)),
       mvm(0, 0, p(0, 2), {}, 2, 4), mvm(1, 1, p(0, 2)), mvm(0, 0, p(0, 2), {}, 0, 2), kEnd, sum()},
      counts);
  // Nested loops for one index.
  const Index both{0, {{"p", 2}, {"k", 1}}};
  bench.accepts({write(0, 0), write(1, 1), loop("p", 3), loop("k", 2), gather(both), mvm(0, 0, both), mvm(1, 1, both),
                 kEnd, kEnd, loop("p", 6), sum(p()), kEnd},
                counts);
  // A loop over tiles and crossbars.
  const Index t = counted("t");
  const Index crossbar{3, {{"t", 2}}};
  bench.accepts({loop("t", 2), Write{0, t, crossbar, std::nullopt, "w", {}}, kEnd, loop("p", 6), gather(p()),
                 loop("t", 2), Mvm{0, t, crossbar, "v", "acc", p(), {}, 0, 4}, kEnd, sum(p()), kEnd},
                counts);
}

TEST_CASE("Copies of a tile may share its vectors", "[verify]") {
  Bench bench;
  bench.accepts({write(0, 0), write(0, 1), write(1, 2), loop("p", 3), gather(p(0, 2)), mvm(0, 0, p(0, 2)),
                 mvm(1, 2, p(0, 2)), gather(p(1, 2)), mvm(0, 1, p(1, 2)), mvm(1, 2, p(1, 2)), kEnd, sum()},
                {3, 48, 0});
}

TEST_CASE("Copies have vectors of their own in lanes", "[verify]") {
  Bench bench;
  const Index c = counted("c");
  const Index at{0, {{"p", 2}, {"c", 1}}};
  const auto gather_in = [&](const Index& lane) { return Gather{0, "q", "v", at, {}, lane}; };
  const auto mvm_in = [&](std::int64_t tile, const Index& crossbar, const Index& lane) {
    return Mvm{0, {tile, {}}, crossbar, "v", "acc", at, {}, 0, 4, lane};
  };
  const Code two = {loop("c", 2), Write{0, {}, c, std::nullopt, "w", {}},
                    Write{0, {1, {}}, {2, {{"c", 1}}}, std::nullopt, "w", {}}, kEnd};
  const auto with = [&two](Code more) {
    more.insert(more.begin(), two.begin(), two.end());
    return more;
  };
  const Index second{2, {{"c", 1}}};
  bench.accepts(
      with({loop("p", 3), loop("c", 2), gather_in(c), mvm_in(0, c, c), mvm_in(1, second, c), sum(at), kEnd, kEnd}),
      {4, 48, 0});
  // Both are gathered before they are shown.
  bench.accepts(with({loop("p", 3), loop("c", 2), gather_in(c), kEnd, loop("c", 2), mvm_in(0, c, c),
                      mvm_in(1, second, c), sum(at), kEnd, kEnd}),
                {4, 48, 0});
  bench.refuses(with({loop("p", 3), loop("c", 2), gather_in({5, {}}), kEnd, loop("c", 2), mvm_in(0, c, c), kEnd, kEnd}),
                9, "'v' is read before it is computed");
  bench.refuses(with({loop("p", 3), loop("c", 2), gather_in({}), kEnd, loop("c", 2), mvm_in(0, c, {}), kEnd, kEnd}), 9,
                "'v' does not hold that input vector");
  bench.refuses({Gather{0, "q", "v", {}, {}, {std::int64_t{1} << 30, {}}}}, 0, "lanes go from 0 to");
}

TEST_CASE("Tiles that stay are there for the next sample as well", "[verify]") {
  Bench bench;
  const Code body = {loop("p", 6), gather(p()), mvm(0, 0, p()), mvm(1, 1, p()), sum(p()), kEnd};
  bench.accepts(body, {0, 48, 2}, {write(0, 0), write(1, 1)});
  Code spoilt = body;
  spoilt.emplace_back(write(1, 0));
  bench.refuses(spoilt, 2, "crossbar 0 does not hold tile 0", {write(0, 0), write(1, 1)});
  bench.refuses(body, 3, "crossbar 1 does not hold tile 1", {write(0, 0)});
  bench.set(body, {write(0, 0), gather({})});
  CHECK_THROWS_WITH(verify_program(bench.program, bench.graph), Contains("before READY there are only"));
  bench.set({Ready{}}, {write(0, 0)});
  CHECK_THROWS_WITH(verify_program(bench.program, bench.graph), Contains("READY must stand once"));
}

TEST_CASE("Groups have their own weights", "[verify]") {
  Bench bench(3);
  bench.accepts({loop("g", 3), write(0, 0, kG), write(1, 1, kG), loop("p", 6), gather(p(), kG), mvm(0, 0, p(), kG),
                 mvm(1, 1, p(), kG), kEnd, sum({}, kG), kEnd},
                {6, 144, 0});
  // After a loop a crossbar holds what the last iteration wrote.
  bench.refuses({loop("g", 3), write(0, 0, kG), kEnd, loop("g", 3), loop("p", 6), gather(p(), kG), mvm(0, 0, p(), kG),
                 kEnd, kEnd},
                6, "crossbar 0 does not hold tile 0");
  bench.refuses(
      {loop("g", 3), write(0, 0, kG), kEnd, loop("p", 6), gather(p(), {1, {}}), mvm(0, 0, p(), {1, {}}), kEnd}, 5,
      "crossbar 0 does not hold tile 0");
  // In the second iteration it holds what the first wrote.
  bench.refuses(
      {write(0, 0), loop("g", 3), loop("p", 6), gather(p(), kG), mvm(0, 0, p(), kG), kEnd, write(0, 0, kG), kEnd}, 4,
      "crossbar 0 does not hold tile 0");
}

TEST_CASE("Products that are missing or made again are refused", "[verify]") {
  Bench bench;
  const Code two = {write(0, 0), write(1, 1)};
  const auto with = [&two](Code more) {
    more.insert(more.begin(), two.begin(), two.end());
    return more;
  };
  const auto all = [](const Index& at) { return Code{gather(at), mvm(0, 0, at), mvm(1, 1, at)}; };
  Code half = with({loop("p", 3)});
  for (const auto& i : all(p())) half.push_back(i);
  half.emplace_back(kEnd);
  half.emplace_back(sum());
  bench.refuses(half, 7, "tile 0 of layer 'l' sees a digit 3 times instead of 6");
  Code overlapping = half;
  overlapping.pop_back();
  overlapping.emplace_back(loop("p", 4));
  for (const auto& i : all(p(2))) overlapping.push_back(i);
  overlapping.emplace_back(kEnd);
  overlapping.emplace_back(sum());
  bench.refuses(overlapping, 12, "sees a digit 7 times instead of 6");
  bench.refuses(with({loop("p", 3), gather(p(0, 2)), mvm(0, 0, p(0, 2)), kEnd}), 4, "without gaps");
  bench.refuses(with({loop("k", 2), loop("p", 6), gather(p()), mvm(0, 0, p()), kEnd, kEnd}), 5,
                "does the same 2 times");
  bench.refuses(with({loop("p", 6), gather(p()), sum(p()), mvm(0, 0, p()), mvm(1, 1, p()), kEnd}), 4,
                "'acc' is read before it is computed");
  bench.refuses(with({loop("p", 6), gather(p()), mvm(0, 0, p()), sum(p()), kEnd}), 5,
                "tile 1 of layer 'l' sees a digit 0");
  // Added up twice: the sums are gone.
  bench.refuses(with({loop("p", 6), gather(p()), mvm(0, 0, p()), mvm(1, 1, p()), sum(p()), sum(p()), kEnd}), 7,
                "sees a digit 0 times instead of 6");
}

TEST_CASE("Registers hold what they are read for", "[verify]") {
  Bench bench;
  const Code two = {write(0, 0), write(1, 1)};
  bench.refuses({write(0, 0), loop("p", 5), gather(p()), mvm(0, 0, p(1)), kEnd}, 3,
                "'v' does not hold that input vector");
  bench.refuses({write(0, 0), gather({}), loop("p", 6), mvm(0, 0, p()), kEnd}, 3,
                "'v' does not hold that input vector");
  bench.refuses({write(0, 0), loop("p", 6), mvm(0, 0, p()), gather(p()), kEnd}, 2, "'v' is read before it is computed");
  // From the second iteration on the vector is the one before.
  bench.refuses({write(0, 0), gather({}), loop("p", 6), mvm(0, 0, {}), gather(p()), kEnd}, 3,
                "'v' does not hold that input vector");
  bench.refuses({Gather{0, "x", "v", {}, {}}}, 0, "'x' does not hold the quantised input");
  bench.refuses({Gather{0, "q", "x", {}, {}}}, 0, "'x' is the name of a node");
}

TEST_CASE("Indices and loops keep their bounds", "[verify]") {
  Bench bench;
  bench.refuses({loop("p", 7), gather(p()), kEnd}, 1, "at must lie in [0, 6), got 6");
  bench.refuses({gather(p())}, 0, "there is no loop variable 'p'");
  bench.refuses({loop("p", 2), gather(p()), loop("p", 2), kEnd, kEnd}, 2, "the loop variable 'p' must be new");
  bench.refuses({loop("p", 2), gather(p(0, INT64_MAX)), kEnd}, 1, "at must lie in [0, 6)");
  bench.refuses({loop("p", 3), gather(p(0, INT64_MAX)), kEnd}, 1, "an index must be from 0 to 2^63 - 1");
  bench.refuses({loop("t", std::int64_t{1} << 40), Write{0, counted("t"), {}, std::nullopt, "w", {}}, kEnd}, 1,
                "the layer has 2 tiles, got number 2");
  bench.refuses({loop("t", std::int64_t{1} << 40), Write{0, {}, {0, {{"t", 1}}}, std::nullopt, "w", {}}, kEnd}, 1,
                "the hardware has 8 crossbars, got number 8");
  bench.refuses({write(0, 8)}, 0, "the hardware has 8 crossbars");
  bench.refuses({loop("p", 2)}, 0, "the loop has no END");
  bench.refuses({kEnd}, 0, "END without LOOP");
  bench.refuses({Loop{"p", 0}, kEnd}, 0, "count must be at least 1");
  Code deep;
  for (const char* name : {"a", "b", "c", "d", "e", "f", "h"}) deep.emplace_back(loop(name, 1));
  for (int i = 0; i < 7; ++i) deep.emplace_back(kEnd);
  bench.refuses(deep, 6, "nested deeper than 6");
  bench.program.hardware.resources.crossbars.reset();
  bench.refuses({loop("t", std::int64_t{1} << 40), Write{0, {}, {0, {{"t", 1}}}, std::nullopt, "w", {}}, kEnd}, 1,
                "a program uses crossbars 0 to");
  bench.refuses({loop("t", std::int64_t{1} << 40), Write{0, {0, {}}, {0, {{"t", 0}}}, std::nullopt, "w", {}}, kEnd}, 1,
                "unrolled loops counted");
}
