#include "compiler/feedback/timeline.h"

#include <algorithm>
#include <functional>

#include "common/rounding.h"
#include "common/saturating.h"
#include "compiler/cost/tier1.h"
#include "compiler/ir/rows.h"
#include "compiler/passes/loads.h"

namespace cimq::compiler {
namespace {

/// Crossbars of tiles from one on.
template <typename Body>
void each_tile(const LayerTiming& timing, std::int64_t first, std::span<std::uint64_t> crossbars, const Body& body) {
  if (timing.columns.size() == 1) {
    for (std::uint64_t& crossbar : crossbars) body(crossbar, timing.slowest);
    return;
  }
  for (std::uint64_t& crossbar : crossbars) body(crossbar, timing.tile(first++));
}

}  // namespace

bool has_timeline(const Hardware& hardware) {
  return !hardware.timing.vector_time_us && !hardware.resources.bus_bytes_per_us && !hardware.resources.buffer_bytes;
}

Timeline::Timeline(const Graph& graph, const Hardware& hardware)
    : graph_(graph),
      write_ps_(static_cast<Time>(picoseconds(hardware.timing.write_time_us))),
      port_count_(hardware.resources.parallel_writes),
      layer_of_(graph.nodes.size()),
      order_(graph),
      at_once_(graph.nodes.size(), 1),
      ready_(graph.nodes.size()) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (!node.crossbar) continue;
    layer_of_[i] = layers_.size();
    Layer layer;
    layer.node = i;
    layer.rows = layer_rows(graph, node);
    layer.comes_in_rows = comes_in_rows(graph, node);
    layers_.push_back(layer);
  }
}

void Timeline::begin(std::int64_t pool) {
  pool_ = pool;
  std::ranges::fill(ready_, 0);
  free_.clear();
  unused_ports_ = port_count_.value_or(0);
  ports_ = {};
  for (Layer& layer : layers_) layer.quantized = layer.shown = layer.coded = 0;
}

Timeline::Time Timeline::input_of(const Node& node, std::size_t input) const {
  return node.inputs[input] < 0 ? 0 : ready_[static_cast<std::size_t>(node.inputs[input])];
}

Timeline::Time Timeline::input_of(const Node& node) const {
  Time ready = 0;
  for (std::size_t input = 0; input < node.inputs.size(); ++input) ready = std::max(ready, input_of(node, input));
  return ready;
}

std::uint64_t Timeline::in_series(std::span<const PlacedLayer> layers, std::int64_t pool) {
  begin(pool);
  Time last = 0;
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (!graph_.nodes[i].crossbar) {
      ready_[i] = input_of(graph_.nodes[i]);
      continue;
    }
    Layer& layer = layers_[layer_of_[i]];
    layer.quantized = input_of(graph_.nodes[i], 0);
    multiply(layer, layers[layer_of_[i]]);
    ready_[i] = layer.coded;
    last = std::max(last, layer.coded);
  }
  return last;
}

std::uint64_t Timeline::in_rows(std::span<const PlacedLayer> layers, std::int64_t pool, std::uint64_t limit) {
  begin(pool);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = layers_[i];
    const bool rows = layers[i].stays() && layer.comes_in_rows;
    at_once_[layer.node] = rows ? rows_at_once(layer.rows, layers[i].copies) : rows_of(graph_.nodes[layer.node].shape);
  }
  Time last = 0;
  order_.run(at_once_, [&](const RowSet& set) {
    const Node& node = graph_.nodes[set.node];
    if (set.kind == RowSet::Kind::kCompute) {
      ready_[set.node] = input_of(node);
      return true;
    }
    Layer& layer = layers_[layer_of_[set.node]];
    if (set.kind == RowSet::Kind::kQuantize) {
      layer.quantized = input_of(node, 0);
      return true;
    }
    const PlacedLayer& placed = layers[layer_of_[set.node]];
    if (layer.comes_in_rows && placed.stays()) {
      stay(layer, placed, set.count * layer.rows.vectors);
    } else {
      multiply(layer, placed);
    }
    ready_[set.node] = layer.coded;
    last = std::max(last, layer.coded);
    return last < limit;
  });
  return last;
}

/// Vectors of every group for a layer that stays.
void Timeline::stay(Layer& layer, const PlacedLayer& placed, std::int64_t vectors) {
  const LayerTiming& timing = *placed.timing;
  const Time shown = saturating_product(static_cast<Time>(ceil_div(vectors, placed.copies)), timing.load.groups);
  const Time before =
      saturating_sum(std::max(layer.shown, layer.quantized), saturating_product(shown - 1, timing.slowest.hold_ps));
  layer.shown = saturating_sum(before, timing.slowest.hold_ps);
  layer.coded = std::max(layer.coded, saturating_sum(before, timing.slowest.code_ps));
}

/// All of a layer (LayerLowering::multiply).
void Timeline::multiply(Layer& layer, const PlacedLayer& placed) {
  if (placed.stays()) return stay(layer, placed, placed.timing->load.vectors);
  const Node& node = graph_.nodes[layer.node];
  layer.written = writes_operand(node.op) ? input_of(node, 1) : 0;
  lanes_.assign(static_cast<std::size_t>(placed.copies), layer.quantized);
  if (placed.timing->load.groups == 1) {
    multiply_single(layer, placed);
  } else {
    multiply_groups(layer, placed);
  }
}

void Timeline::multiply_single(Layer& layer, const PlacedLayer& placed) {
  const std::int64_t tiles = placed.timing->load.tiles;
  const std::int64_t staying = placed.resident;  // of a layer with copies all stays, or nothing
  pass(layer, placed, staying, std::min(tiles - staying, pool_), 1, staying);
  for (std::int64_t t = staying + pool_; t < tiles; t += pool_) {
    pass(layer, placed, t, std::min(pool_, tiles - t), 1, 0);
  }
}

void Timeline::multiply_groups(Layer& layer, const PlacedLayer& placed) {
  const LayerLoad& load = placed.timing->load;
  const std::int64_t each = load.tiles * placed.copies;
  const std::int64_t staying = placed.resident / each;
  for (std::int64_t g = 0; g < staying; ++g) show(layer, placed, 0, 0, 0, load.tiles);
  const std::int64_t at_once = pool_ / each;
  for (std::int64_t g = staying; g < load.groups && at_once > 0; g += at_once) {
    pass(layer, placed, 0, load.tiles, std::min(at_once, load.groups - g), 0);
  }
  for (std::int64_t g = staying; g < load.groups && at_once == 0; ++g) {
    for (std::int64_t t = 0; t < load.tiles; t += pool_) {
      pass(layer, placed, t, std::min(pool_, load.tiles - t), 1, 0);
    }
  }
}

/// Writes tiles [tile, tile + tiles) of all copies of so many groups, and shows all vectors to them and to the first
/// `staying` tiles of the layer.
void Timeline::pass(Layer& layer, const PlacedLayer& placed, std::int64_t tile, std::int64_t tiles, std::int64_t groups,
                    std::int64_t staying) {
  const std::int64_t each = tiles * placed.copies;
  write(each * groups, layer.written);
  for (std::int64_t g = 0; g < groups; ++g) show(layer, placed, tile, tiles, g * each, staying);
}

/// All vectors of a group, shared out among the copies: each has `tiles` crossbars of the pool, from `crossbar` on.
void Timeline::show(Layer& layer, const PlacedLayer& placed, std::int64_t tile, std::int64_t tiles,
                    std::int64_t crossbar, std::int64_t staying) {
  const LayerTiming& timing = *placed.timing;
  const TileTiming stay = timing.slowest_of(0, staying);
  const TileTiming passing = timing.slowest_of(tile, tile + tiles);
  const TileTiming slowest = {std::max(stay.hold_ps, passing.hold_ps), std::max(stay.code_ps, passing.code_ps)};
  const std::int64_t left = timing.load.vectors % placed.copies;
  for (std::int64_t copy = 0; copy < placed.copies; ++copy, crossbar += tiles) {
    const std::int64_t vectors = timing.load.vectors / placed.copies + (copy < left ? 1 : 0);
    Time& lane = lanes_[static_cast<std::size_t>(copy)];
    const std::span<Time> free(free_.begin() + crossbar, static_cast<std::size_t>(tiles));
    // The first vector meets every crossbar as soon as it is free; the following ones meet all of them at once.
    const Time begin = lane;
    lane = saturating_sum(begin, stay.hold_ps);
    Time coded = saturating_sum(begin, stay.code_ps);
    each_tile(timing, tile, free, [&](Time& crossbar_free, const TileTiming& own) {
      const Time from = std::max(begin, crossbar_free);
      crossbar_free = saturating_sum(from, own.hold_ps);
      lane = std::max(lane, crossbar_free);
      coded = std::max(coded, saturating_sum(from, own.code_ps));
    });
    if (vectors > 1) {
      const Time last = saturating_sum(lane, saturating_product(static_cast<Time>(vectors - 2), slowest.hold_ps));
      each_tile(timing, tile, free, [last](Time& crossbar_free, const TileTiming& own) {
        crossbar_free = saturating_sum(last, own.hold_ps);
      });
      lane = saturating_sum(last, slowest.hold_ps);
      coded = saturating_sum(last, slowest.code_ps);
    }
    layer.coded = std::max(layer.coded, coded);
  }
}

/// Writes the first crossbars of the pool, not before `from`.
void Timeline::write(std::int64_t crossbars, Time from) {
  if (free_.size() < static_cast<std::size_t>(crossbars)) free_.resize(static_cast<std::size_t>(crossbars));
  for (std::size_t c = 0; c < static_cast<std::size_t>(crossbars); ++c) {
    Time begin = std::max(free_[c], from);
    if (port_count_) {
      if (unused_ports_ > 0) {
        --unused_ports_;
      } else {
        begin = std::max(begin, ports_.top());
        ports_.pop();
      }
    }
    free_[c] = saturating_sum(begin, write_ps_);
    if (port_count_) ports_.push(free_[c]);
  }
}

}  // namespace cimq::compiler
