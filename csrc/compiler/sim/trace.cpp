#include "compiler/sim/trace.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "compiler/cost/tier1.h"
#include "compiler/sim/moment.h"

namespace cimq::compiler::sim {
namespace {

using Line = nlohmann::ordered_json;

constexpr std::size_t kFirstCrossbar = static_cast<std::size_t>(Track::kCrossbar);
constexpr std::int64_t kFirstGapPs = 1'000;
constexpr std::int64_t kGapGrowth = 8;
constexpr std::int64_t kAnyGap = std::numeric_limits<std::int64_t>::max();

enum Process { kLayers = 1, kShared = 2, kCrossbars = 3 };

Line name_line(const char* kind, int process, std::int64_t thread, const std::string& name) {
  return {{"name", kind}, {"ph", "M"}, {"pid", process}, {"tid", thread}, {"args", {{"name", name}}}};
}

Line span_line(const std::string& name, const char* category, int process, std::int64_t thread, std::int64_t begin_ps,
               std::int64_t end_ps) {
  return {{"name", name},
          {"cat", category},
          {"ph", "X"},
          {"ts", microseconds(begin_ps)},
          {"dur", microseconds(end_ps - begin_ps)},
          {"pid", process},
          {"tid", thread}};
}

}  // namespace

void Trace::add(const TrackNumber& track, std::int32_t layer, Cause cause, std::int64_t begin_ps,
                std::int64_t time_ps) {
  if (time_ps == 0 || full_) return;
  if (track.track == Track::kCrossbar && track.number >= kMaxTracedCrossbars) {
    more_crossbars_ = true;
    return;
  }
  put({static_cast<std::size_t>(track.track) + static_cast<std::size_t>(track.number), layer, cause, begin_ps,
       begin_ps + time_ps, time_ps, 1});
  while (events_.size() > max_events_ && !full_) coarsen();
}

void Trace::add_layer(std::int32_t layer, std::int64_t begin_ps, std::int64_t end_ps) {
  layers_.push_back({layer, begin_ps, end_ps});
}

void Trace::put(const Event& event) {
  if (event.track >= last_.size()) last_.resize(event.track + 1, kNone);
  const std::size_t last = last_[event.track];
  if (last != kNone) {
    Event& before = events_[last];
    if (before.layer == event.layer && before.cause == event.cause && event.begin_ps - before.end_ps <= gap_ps_) {
      before.end_ps = event.end_ps;
      before.busy_ps += event.busy_ps;
      before.count += event.count;
      return;
    }
  }
  last_[event.track] = events_.size();
  events_.push_back(event);
}

void Trace::coarsen() {
  if (gap_ps_ == kAnyGap) {  // every event is of another layer or cause than its neighbours
    full_ = true;
    return;
  }
  gap_ps_ = gap_ps_ == 0 ? kFirstGapPs : (gap_ps_ > kAnyGap / kGapGrowth ? kAnyGap : gap_ps_ * kGapGrowth);
  const std::vector<Event> events = std::exchange(events_, {});
  last_.clear();
  for (const Event& event : events) put(event);
}

std::string Trace::json(const std::vector<std::string>& names) const {
  const auto name_of = [&names](std::int32_t layer) {
    return layer == kBetweenLayers ? std::string("between layers") : names[static_cast<std::size_t>(layer)];
  };
  std::string text = R"({"displayTimeUnit": "ns", "otherData": )";
  text += Line({{"producer", "cimq"},
                {"made_one_across_gaps_of_us", gap_ps_ == kAnyGap ? Line("any") : Line(microseconds(gap_ps_))},
                {"crossbars_left_out_from", more_crossbars_ ? Line(kMaxTracedCrossbars) : Line(nullptr)},
                {"events_left_out_from_us", full_ ? Line(microseconds(events_.back().begin_ps)) : Line(nullptr)}})
              .dump();
  text += ", \"traceEvents\": [\n";
  bool first = true;
  const auto put_line = [&](const Line& line) {
    text += first ? "" : ",\n";
    text += line.dump();
    first = false;
  };
  put_line(name_line("process_name", kLayers, 0, "layers"));
  put_line(name_line("process_name", kShared, 0, "bus and vector unit"));
  put_line(name_line("process_name", kCrossbars, 0, "crossbars"));
  const std::vector<std::string> shared = {"vectors in", "results out", "vector unit"};
  for (std::size_t i = 0; i < shared.size(); ++i) {
    put_line(name_line("thread_name", kShared, static_cast<std::int64_t>(i), shared[i]));
  }
  for (const LayerSpan& span : layers_) {
    put_line(name_line("thread_name", kLayers, span.layer, name_of(span.layer)));
    put_line(span_line(name_of(span.layer), "layer", kLayers, span.layer, span.begin_ps, span.end_ps));
  }
  std::set<std::size_t> crossbars;
  for (const Event& event : events_) {
    const bool shares = event.track < kFirstCrossbar;
    const std::size_t thread = shares ? event.track : event.track - kFirstCrossbar;
    if (!shares && crossbars.insert(thread).second) {
      put_line(name_line("thread_name", kCrossbars, static_cast<std::int64_t>(thread),
                         "crossbar " + std::to_string(thread)));
    }
    const char* cause = kCauseNames[static_cast<std::size_t>(event.cause)];
    Line line = span_line(name_of(event.layer) + " " + cause, cause, shares ? kShared : kCrossbars,
                          static_cast<std::int64_t>(thread), event.begin_ps, event.end_ps);
    line["args"] = {
        {"layer", name_of(event.layer)}, {"instructions", event.count}, {"busy_us", microseconds(event.busy_ps)}};
    put_line(line);
  }
  return text + "\n]}\n";
}

}  // namespace cimq::compiler::sim
