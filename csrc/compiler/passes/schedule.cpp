#include "compiler/passes/schedule.h"

#include <algorithm>

#include "compiler/ir/rows.h"
#include "compiler/plan/options.h"

namespace cimq::compiler {
namespace {

using Kind = RowSet::Kind;

/// A value that is made row by row: the result of a node, or the quantised input of a layer.
struct Unit {
  std::size_t node = 0;
  bool quantized = false;
};

class Scheduling {
 public:
  explicit Scheduling(const Module& module)
      : graph_(module.graph),
        at_once_(graph_.nodes.size(), 1),
        results_(graph_.nodes.size()),
        quantized_(graph_.nodes.size()) {
    for (std::size_t layer = 0; layer < tiles_of(module).size(); ++layer) {
      const std::size_t node = tiles_of(module)[layer].node;
      at_once_[node] = rows_at_once_of(module, layer);
    }
  }

  std::vector<RowSet> run() {
    demand({static_cast<std::size_t>(graph_.output), false});
    // Nodes that the output does not need.
    for (std::size_t node = 0; node < graph_.nodes.size(); ++node) demand({node, false});
    return std::move(sets_);
  }

 private:
  struct Demand {
    Unit unit;
    std::int64_t end = 0;  // rows [0, end) are wanted
  };

  std::int64_t rows_at_once_of(const Module& module, std::size_t layer) const {
    const Node& node = graph_.nodes[tiles_of(module)[layer].node];
    const CrossbarLayer& facts = compiler::crossbar_of(node);
    const LayerPlacement& placement = placement_of(module)[layer];
    const std::int64_t all = facts.repeats * tiles_of(module)[layer].tiling.tiles() * placement.copies;
    const std::int64_t rows = rows_of(node.shape);
    if (placement.resident < all || !comes_in_rows(graph_, node)) return rows;
    return rows_at_once({rows, vectors_per_row(node)}, placement.copies);
  }

  const Node& node_of(const Unit& unit) const { return graph_.nodes[unit.node]; }

  std::int64_t& done(const Unit& unit) { return (unit.quantized ? quantized_ : results_)[unit.node]; }

  std::int64_t all_rows(const Unit& unit) const {
    return rows_of(unit.quantized ? graph_.shape_of(node_of(unit).inputs[0]) : node_of(unit).shape);
  }

  /// Makes all rows of a unit, and before each what it needs.
  void demand(const Unit& last) {
    std::vector<Demand> stack = {{last, all_rows(last)}};
    while (!stack.empty()) {
      const Demand now = stack.back();
      if (done(now.unit) >= now.end) {
        stack.pop_back();
        continue;
      }
      const std::int64_t least = next_end(now.unit);
      const std::optional<Demand> missing = missing_for(now.unit, least);
      if (missing) {
        stack.push_back(*missing);
        continue;
      }
      // What can be had without making anything else comes along, where it is wanted and costs no crossbar's time.
      std::int64_t end = least;
      const bool grows = now.unit.quantized || !node_of(now.unit).crossbar;
      while (grows && end < now.end && !missing_for(now.unit, end + 1)) ++end;
      add(now.unit, end);
    }
  }

  /// Where the next set of a unit ends.
  std::int64_t next_end(const Unit& unit) {
    const std::int64_t all = all_rows(unit);
    if (unit.quantized) return done(unit) + 1;
    const Node& node = node_of(unit);
    if (node.crossbar) return std::min(all, done(unit) + at_once_[unit.node]);
    return comes_in_rows(graph_, node) ? done(unit) + 1 : all;
  }

  /// What must be made before rows [0, end) of a unit; nothing where all is there.
  std::optional<Demand> missing_for(const Unit& unit, std::int64_t end) {
    const Node& node = node_of(unit);
    if (!unit.quantized && node.crossbar) {
      const Demand needed{{unit.node, true}, rows_needed(graph_, node, 0, end)};
      if (done(needed.unit) < needed.end) return needed;
    }
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      // Of a layer the first input is quantised, and a second one written to its crossbars.
      const bool other_part = node.crossbar && unit.quantized != (k == 0);
      if (node.inputs[k] < 0 || other_part) continue;
      const Demand needed{{static_cast<std::size_t>(node.inputs[k]), false},
                          unit.quantized ? end : rows_needed(graph_, node, k, end)};
      if (done(needed.unit) < needed.end) return needed;
    }
    return std::nullopt;
  }

  void add(const Unit& unit, std::int64_t end) {
    std::int64_t& rows = done(unit);
    const Kind kind = unit.quantized ? Kind::kQuantize : node_of(unit).crossbar ? Kind::kMultiply : Kind::kCompute;
    RowSet* last = sets_.empty() ? nullptr : &sets_.back();
    if (kind != Kind::kMultiply && last != nullptr && last->kind == kind && last->node == unit.node) {
      last->count += end - rows;
    } else {
      sets_.push_back({kind, unit.node, rows, end - rows});
    }
    rows = end;
  }

  const Graph& graph_;
  std::vector<std::int64_t> at_once_;              // by node; of layers
  std::vector<std::int64_t> results_, quantized_;  // rows that are done
  std::vector<RowSet> sets_;
};

void schedule(Module& module, Context&) { module.schedule = Scheduling(module).run(); }

}  // namespace

Pass schedule_pass() { return {"schedule", {Part::kTiles, Part::kPlacement}, Part::kSchedule, schedule}; }

}  // namespace cimq::compiler
