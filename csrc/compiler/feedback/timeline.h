// When a placed network is done: what sim/simulate.h finds for its program, layer by layer or row set by row set
// instead of instruction by instruction.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <span>
#include <vector>

#include "compiler/feedback/layer_timing.h"
#include "compiler/ir/graph.h"
#include "compiler/plan/options.h"
#include "compiler/plan/row_order.h"

namespace cimq::compiler {

/// Whether the times of programs on this machine are made of writes (with their ports), MVMs and converters alone: no
/// bus, no vector unit, no limit of the buffer.
bool has_timeline(const Hardware& hardware);

/// A crossbar layer and where it is: `resident` crossbars stay, the rest passes through the pool (ir/module.h).
struct PlacedLayer {
  const LayerTiming* timing = nullptr;
  std::int64_t resident = 0, copies = 1;

  bool stays() const { return resident == timing->load.all() * copies; }
};

/// Times of one network on one machine that has_timeline. A layer that stays has all crossbars for itself, and of its
/// copies the first is shown the most vectors: when that one is done, all are. Layers that pass through the pool are
/// followed round by round, crossbar by crossbar.
class Timeline {
 public:
  /// `graph` outlives it.
  Timeline(const Graph& graph, const Hardware& hardware);

  /// The program of lower_stationary_pass; `layers`: crossbar layers in order of execution; `pool`: crossbars of the
  /// pool. kUncountable beyond 64 bits.
  std::uint64_t in_series(std::span<const PlacedLayer> layers, std::int64_t pool);

  /// The program of schedule_pass and lower_in_rows_pass. Where it takes `limit` or more, something that is no less.
  std::uint64_t in_rows(std::span<const PlacedLayer> layers, std::int64_t pool, std::uint64_t limit);

 private:
  using Time = std::uint64_t;
  struct Layer {
    std::size_t node = 0;
    LayerRows rows;
    bool comes_in_rows = false;
    Time quantized = 0;  // its input is there
    Time written = 0;    // what its crossbars are written from is there
    Time shown = 0;      // the first copy has been shown its last vector
    Time coded = 0;      // all sums so far
  };

  void begin(std::int64_t pool);
  Time input_of(const Node& node) const;
  /// Of one input.
  Time input_of(const Node& node, std::size_t input) const;
  void stay(Layer& layer, const PlacedLayer& placed, std::int64_t vectors);
  void multiply(Layer& layer, const PlacedLayer& placed);
  void multiply_single(Layer& layer, const PlacedLayer& placed);
  void multiply_groups(Layer& layer, const PlacedLayer& placed);
  void pass(Layer& layer, const PlacedLayer& placed, std::int64_t tile, std::int64_t tiles, std::int64_t groups,
            std::int64_t staying);
  void show(Layer& layer, const PlacedLayer& placed, std::int64_t tile, std::int64_t tiles, std::int64_t crossbar,
            std::int64_t staying);
  void write(std::int64_t crossbars, Time from);

  const Graph& graph_;
  Time write_ps_;
  std::optional<std::int64_t> port_count_;
  std::vector<Layer> layers_;
  std::vector<std::size_t> layer_of_;  // by node
  RowOrder order_;
  std::vector<std::int64_t> at_once_;  // by node
  std::int64_t pool_ = 0;
  std::vector<Time> ready_;  // by node
  std::vector<Time> free_;   // crossbars of the pool
  std::vector<Time> lanes_;  // of the layer that passes: the vector before has been shown to the copy
  std::int64_t unused_ports_ = 0;
  std::priority_queue<Time, std::vector<Time>, std::greater<>> ports_;
};

}  // namespace cimq::compiler
