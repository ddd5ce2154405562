// What the verifier makes of loops over samples: what is right for two samples is right for all, and what samples may
// not share is refused by its line.
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

constexpr std::int64_t kBatch = 3;

struct Bench : cimq::test::LayerBench {
  Bench() { program.batch = kBatch; }

  void set(const Code& code) {
    program.code = {Configure{0, "n", "l", 4, 4, false, 3, 5, 6, 1, 1, 4, 2, 1}};
    program.code.insert(program.code.end(), code.begin(), code.end());
  }
  void accepts(const Code& code, const ProgramCounts& counts) {
    set(code);
    program.counts = counts;
    CHECK(verify_program(program, graph) == counts);
    // The totals are those of all samples.
    ++program.counts.mvms;
    CHECK_THROWS_WITH(verify_program(program, graph), Contains("line 1 states"));
  }
  /// At the line of `code[at]`.
  void refuses(const Code& code, std::size_t at, const char* part) {
    set(code);
    CHECK_THROWS_WITH(verify_program(program, graph), Contains(cimq::message(line_of(at + 1), ":")) && Contains(part));
  }
};

const Index kP = counted("p");
const Quantize kQuantize{0, "x", "q", "s", 0, 15, 0};
const ShiftAdd kSum{0, "acc", "y", std::nullopt, std::nullopt, {0}};
const Requantize kRequantize{0, "y", "n", "m", "b", 0, ""};
const Loop kSamples{"s", kBatch, true};
const Loop kVectors{"p", 6};
const End kEnd{};

Write write(std::int64_t tile, std::int64_t crossbar) { return {0, {tile, {}}, {crossbar, {}}, std::nullopt, "w", {}}; }
Gather gather(const Index& at = kP) { return {0, "q", "v", at, {}}; }
Mvm mvm(std::int64_t tile, std::int64_t crossbar, const Index& at = kP) {
  return {0, {tile, {}}, {crossbar, {}}, "v", "acc", at, {}, 0, 4};
}

}  // namespace

TEST_CASE("A tile that is written serves all samples", "[verify]") {
  Bench bench;
  // Tile after tile, in one crossbar.
  bench.accepts({kSamples, kQuantize, kEnd, write(0, 0), kSamples, kVectors, gather(), mvm(0, 0), kEnd, kEnd,
                 write(1, 0), kSamples, kVectors, gather(), mvm(1, 0), kEnd, kSum, kRequantize, kEnd},
                {2, kBatch * 48, 0});
  // Both together, all of a sample before the next.
  bench.accepts({write(0, 0), write(1, 1), kSamples, kQuantize, kVectors, gather(), mvm(0, 0), mvm(1, 1), kEnd, kSum,
                 kRequantize, kEnd},
                {2, kBatch * 48, 0});
  // Written for each sample: no gain, and right.
  bench.accepts({kSamples, kQuantize, write(0, 0), kVectors, gather(), mvm(0, 0), kEnd, write(1, 0), kVectors, gather(),
                 mvm(1, 0), kEnd, kSum, kRequantize, kEnd},
                {2 * kBatch, kBatch * 48, 0});
  // Registers are each sample's own: what takes the place of a quantised input is not there for the next sample.
  const Quantize early{0, "x", "y", "s", 0, 15, 0};
  Gather from_y = gather();
  from_y.src = "y";
  bench.accepts({kSamples, early, kEnd, write(0, 0), write(1, 1), kSamples, kVectors, from_y, mvm(0, 0), mvm(1, 1),
                 kEnd, kSum, kRequantize, kEnd},
                {2, kBatch * 48, 0});
}

TEST_CASE("What one sample leaves in a crossbar is what the next one finds", "[verify]") {
  Bench bench;
  bench.refuses({kSamples, kQuantize, kEnd, write(0, 0), kSamples, kVectors, gather(), mvm(0, 0), kEnd, write(1, 0),
                 kVectors, gather(), mvm(1, 0), kEnd, kSum, kRequantize, kEnd},
                7, "crossbar 0 does not hold tile 0 of layer 0");
}

TEST_CASE("Input vectors are brought for each sample anew", "[verify]") {
  Bench bench;
  bench.refuses({write(0, 0), write(1, 1), kSamples, kQuantize, gather({}), kEnd, kSamples, mvm(0, 0, {}), kEnd}, 7,
                "'v' does not hold that input vector");
}

TEST_CASE("Values stand in loops over samples, which stand in no other and count nothing", "[verify]") {
  Bench bench;
  bench.refuses({kQuantize}, 0, "the program computes 3 samples, this must stand in a loop over samples");
  bench.refuses({kSamples, kQuantize, kEnd, write(0, 0), gather({})}, 4, "must stand in a loop over samples");
  bench.refuses({kSamples, Loop{"t", kBatch, true}, kQuantize, kEnd, kEnd}, 1, "must not stand in another");
  bench.refuses({Loop{"s", 2, true}, kQuantize, kEnd}, 0, "runs 3 times, as many as the header says, got 2");
  bench.refuses({kSamples, kEnd, Ready{}}, 0, "before READY there are no samples");
  bench.refuses({kSamples, kQuantize, gather(counted("s")), kEnd}, 2, "'s' counts samples, and no index may follow it");
  Quantize row = kQuantize;
  row.rows = Rows{counted("s"), 1};
  bench.refuses({kSamples, row, kEnd}, 1, "'s' counts samples");
  bench.set({kSamples, kQuantize, kEnd});
  bench.program.batch = 0;
  CHECK_THROWS_WITH(verify_program(bench.program, bench.graph),
                    Contains("line 1: batch must be from 1 to 65536, got 0"));
}
