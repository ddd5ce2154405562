// Traces stay below their limit, and lose no busy time on the way.
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "compiler/sim/trace.h"

using cimq::compiler::Cause;
using namespace cimq::compiler::sim;
using nlohmann::json;

namespace {

std::vector<json> events_of(const Trace& trace) {
  std::vector<json> events;
  const json all = json::parse(trace.json({"conv", "fc"}));
  for (const auto& event : all["traceEvents"]) {
    if (event["ph"] == "X") events.push_back(event);
  }
  return events;
}

}  // namespace

TEST_CASE("Neighbours without a gap are one event", "[trace]") {
  Trace trace;
  trace.add({Track::kCrossbar, 3}, 0, Cause::kMvm, 0, 10'000'000);
  trace.add({Track::kCrossbar, 3}, 0, Cause::kMvm, 10'000'000, 5'000'000);
  trace.add({Track::kCrossbar, 4}, 0, Cause::kMvm, 15'000'000, 1'000'000);  // another crossbar
  trace.add({Track::kCrossbar, 3}, 1, Cause::kMvm, 15'000'000, 1'000'000);  // another layer
  trace.add({Track::kCrossbar, 3}, 1, Cause::kWrite, 16'000'000, 1'000'000);
  trace.add({Track::kCrossbar, 3}, 1, Cause::kWrite, 18'000'000, 1'000'000);  // a gap
  trace.add({Track::kCrossbar, kMaxTracedCrossbars}, 1, Cause::kWrite, 0, 1);
  trace.add({Track::kVectorUnit, 0}, -1, Cause::kDigital, 0, 0);  // nothing
  trace.add_layer(1, 15'000'000, 19'000'000);
  const auto events = events_of(trace);
  REQUIRE(events.size() == 6);
  CHECK(events[0]["name"] == "fc");
  CHECK(events[0]["dur"] == 4.0);
  CHECK(events[1]["name"] == "conv mvm");
  CHECK(events[1]["dur"] == 15.0);
  CHECK(events[1]["tid"] == 3);
  CHECK(events[1]["args"]["instructions"] == 2);
  CHECK(json::parse(trace.json({"conv", "fc"}))["otherData"]["crossbars_left_out_from"] == kMaxTracedCrossbars);
}

TEST_CASE("Too many events become fewer", "[trace]") {
  Trace trace(100);
  std::map<std::string, double> wanted;
  for (std::int64_t i = 0; i < 5'000; ++i) {
    const std::int64_t crossbar = i % 7;
    const std::int32_t layer = i < 3'000 ? 0 : 1;
    trace.add({Track::kCrossbar, crossbar}, layer, Cause::kMvm, i / 7 * 10'000, 1'000);
    wanted[layer == 0 ? "conv mvm" : "fc mvm"] += 0.001;
    CHECK(trace.events() <= 100);
  }
  std::map<std::string, double> found;
  for (const auto& event : events_of(trace)) found[event["name"]] += event["args"]["busy_us"].get<double>();
  REQUIRE(found.size() == 2);
  for (const auto& [name, busy] : wanted) CHECK(found[name] == Approx(busy));
  CHECK(json::parse(trace.json({"conv", "fc"}))["otherData"]["events_left_out_from_us"].is_null());
}

TEST_CASE("A trace of neighbours that differ ends at its limit", "[trace]") {
  Trace trace(100);
  for (std::int64_t i = 0; i < 1'000; ++i)
    trace.add({Track::kVectorsIn, 0}, i % 2 == 0 ? 0 : 1, Cause::kMove, i * 10, 5);
  CHECK(trace.events() == 101);
  CHECK(json::parse(trace.json({"conv", "fc"}))["otherData"]["events_left_out_from_us"] == Approx(0.001));
}
