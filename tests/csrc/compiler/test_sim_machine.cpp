// The parts of the simulated machine by themselves.
#include <catch2/catch.hpp>

#include "compiler/sim/machine.h"
#include "compiler/sim/moment.h"

using namespace cimq::compiler;
using namespace cimq::compiler::sim;
using Catch::Matchers::Contains;

namespace {

Moment at(std::int64_t time_ps) {
  Moment moment;
  moment.time_ps = time_ps;
  moment.here[Cause::kMvm] = time_ps;
  return moment;
}

const std::string kLayer = "conv";
const Request kRequest{4, "IM2COL", "an input vector", kLayer};

}  // namespace

TEST_CASE("A chain remembers its time by layer and cause", "[simulate]") {
  Chains chains;
  Moment m = chains.spend({}, 0, Cause::kWrite, 10);
  m = chains.spend(m, 0, Cause::kMvm, 5);
  const Moment branch = chains.spend(m, 2, Cause::kMove, 100);
  m = chains.spend(m, kBetweenLayers, Cause::kDigital, 3);
  m = chains.spend(m, 1, Cause::kAdc, 0);  // nothing
  CHECK(m.layer == kBetweenLayers);
  m = chains.spend(m, 0, Cause::kStall, 7);
  CHECK(m.time_ps == 25);
  auto times = chains.along(m, 3);
  CHECK(times[0][Cause::kWrite] == 10);
  CHECK(times[0][Cause::kMvm] == 5);
  CHECK(times[0][Cause::kStall] == 7);
  CHECK(times[1].total() == 0);
  CHECK(times[2].total() == 0);
  CHECK(times[3][Cause::kDigital] == 3);
  times = chains.along(branch, 3);
  CHECK(times[0].total() == 15);
  CHECK(times[2][Cause::kMove] == 100);
  CHECK(times[3].total() == 0);
  CHECK_THROWS_WITH(chains.spend(at(INT64_MAX - 1), 0, Cause::kMvm, 2), Contains("exceeds 63 bits"));
}

TEST_CASE("A unit does one thing at a time, in order", "[simulate]") {
  Chains chains;
  Unit unit(Cause::kMove);
  CHECK(unit.run(chains, at(10), 0, 5).time_ps == 15);
  CHECK(unit.run(chains, at(0), 0, 5).time_ps == 20);   // was free before, but what comes later does not overtake
  CHECK(unit.run(chains, at(12), 0, 0).time_ps == 12);  // does not need it
  CHECK(unit.run(chains, at(50), 0, 1).time_ps == 51);
  CHECK(unit.busy_ps() == 11);
}

TEST_CASE("Writes take the port that is free first", "[simulate]") {
  WritePorts ports(2);
  CHECK(ports.begin(at(0)).time_ps == 0);
  ports.end(at(30));
  CHECK(ports.begin(at(0)).time_ps == 0);
  ports.end(at(20));
  CHECK(ports.begin(at(0)).time_ps == 20);
  ports.end(at(40));
  CHECK(ports.begin(at(35)).time_ps == 35);
  WritePorts any(std::nullopt);
  for (int i = 0; i < 3; ++i) CHECK(any.begin(at(i)).time_ps == i);
}

TEST_CASE("Who needs space waits until enough is given back", "[simulate]") {
  Buffer buffer(100);
  CHECK(buffer.take(0, 60, kRequest) == 0);
  CHECK(buffer.take(5, 40, kRequest) == 5);
  buffer.give_back(50, 60);
  buffer.give_back(20, 40);
  CHECK(buffer.take(7, 30, kRequest) == 20);   // what ends first is enough
  CHECK(buffer.take(8, 10, kRequest) == 20);   // fits the rest of it
  CHECK(buffer.take(9, 20, kRequest) == 50);   // needs both
  CHECK(buffer.take(10, 40, kRequest) == 50);  // space is given out in order
  CHECK(buffer.take(90, 0, kRequest) == 90);
  CHECK(buffer.need_bytes() == 100);
  CHECK_THROWS_WITH(buffer.take(0, 1, kRequest),
                    "program.jsonl: line 6: IM2COL needs 1 bytes for an input vector of layer 'conv', but "
                    "resources.buffer_bytes is 100 and 100 bytes hold what later instructions still use: the program "
                    "needs at least 101 bytes");
}

TEST_CASE("A buffer without limit knows what would have been enough", "[simulate]") {
  Buffer buffer(std::nullopt);
  CHECK(buffer.take(3, 70, kRequest) == 3);
  buffer.give_back(100, 70);
  CHECK(buffer.take(4, 50, kRequest) == 4);
  CHECK(buffer.need_bytes() == 70);
}
