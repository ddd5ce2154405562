// What happened when, as a file for a viewer of traces.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/sim/causes.h"

namespace cimq::compiler::sim {

/// At most so many events are kept, and the one that is too many. Neighbours on a track that belong to the same layer
/// and cause are made one; where there are too many events also across gaps, which grow until they are few enough.
/// Where even that does not do, the trace ends.
inline constexpr std::size_t kMaxTraceEvents = 100'000;
/// Crossbars from this number on are left out.
inline constexpr std::int64_t kMaxTracedCrossbars = 1024;

enum class Track { kVectorsIn, kResultsOut, kVectorUnit, kCrossbar };

struct TrackNumber {
  Track track = Track::kCrossbar;
  std::int64_t number = 0;  ///< of the crossbar; else 0
};

class Trace {
 public:
  explicit Trace(std::size_t max_events = kMaxTraceEvents) : max_events_(max_events) {}

  /// Events of a track come in order of time. `layer` may be kBetweenLayers.
  void add(const TrackNumber& track, std::int32_t layer, Cause cause, std::int64_t begin_ps, std::int64_t time_ps);
  void add_layer(std::int32_t layer, std::int64_t begin_ps, std::int64_t end_ps);

  std::size_t events() const { return events_.size(); }

  /// JSON in Chrome's trace event format: complete events with microseconds; a process for the layers, one for what all
  /// crossbars share and one for the crossbars. `names` of the layers.
  std::string json(const std::vector<std::string>& names) const;

 private:
  struct Event {
    std::size_t track = 0;
    std::int32_t layer = -1;
    Cause cause = Cause::kMvm;
    std::int64_t begin_ps = 0, end_ps = 0, busy_ps = 0;
    std::int64_t count = 1;  ///< that were made one
  };
  struct LayerSpan {
    std::int32_t layer = 0;
    std::int64_t begin_ps = 0, end_ps = 0;
  };
  static constexpr std::size_t kNone = ~std::size_t{0};

  void put(const Event& event);
  void coarsen();

  std::size_t max_events_;
  std::int64_t gap_ps_ = 0;  ///< neighbours with at most so much between are one
  bool more_crossbars_ = false;
  bool full_ = false;
  std::vector<Event> events_;
  std::vector<std::size_t> last_;  ///< by track: its last event
  std::vector<LayerSpan> layers_;
};

}  // namespace cimq::compiler::sim
