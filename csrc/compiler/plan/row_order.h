// In what order layers take turns by rows, and what rows need of one another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "compiler/ir/graph.h"
#include "compiler/ir/module.h"

namespace cimq::compiler {

/// The order of a network's row sets: rows of the last node are asked for one by one, and what a row needs is made
/// right before it, as far back as it takes; no rows are made before somebody needs them.
class RowOrder {
 public:
  /// `graph` outlives it.
  explicit RowOrder(const Graph& graph);

  /// Hands every row set to `take(set)`, in order, until that is false. `at_once` [node]: rows of a crossbar layer that
  /// come together; of other nodes it is not looked at. Sets of neighbours that go on where one ended may be one.
  template <typename Take>
  void run(std::span<const std::int64_t> at_once, const Take& take) {
    at_once_ = at_once;
    std::ranges::fill(done_, 0);
    if (!demand(unit_of(static_cast<std::size_t>(graph_.output), false), take)) return;
    // Nodes that the output does not need.
    for (std::size_t node = 0; node < values_.size(); ++node) {
      if (!demand(unit_of(node, false), take)) return;
    }
  }

 private:
  /// A value that is made row by row: the result of a node, or the quantised input of a layer.
  using Unit = std::size_t;
  static Unit unit_of(std::size_t node, bool quantized) { return 2 * node + (quantized ? 1 : 0); }

  /// What the first rows of a value need of another: of a node's input.
  struct Need {
    Unit unit = 0;
    std::size_t input = 0;
    std::vector<std::int64_t> table;  // by rows - 1, where they are few
  };
  struct Value {
    bool crossbar = false, in_rows = false;
    std::int64_t rows = 1;
    std::vector<Need> needs;
  };
  struct Demand {
    Unit unit = 0;
    std::int64_t end = 0;  // rows [0, end) are wanted
  };

  void add_need(std::size_t node, bool quantized, Unit unit, std::size_t input);
  std::int64_t needed(Unit unit, const Need& need, std::int64_t end) const;

  /// What must be made before rows [0, end) of a unit; nothing where all is there.
  std::optional<Demand> missing_for(Unit unit, std::int64_t end) const {
    for (const Need& need : values_of(unit).needs) {
      const std::int64_t rows = needed(unit, need, end);
      if (done_[need.unit] < rows) return Demand{need.unit, rows};
    }
    return std::nullopt;
  }
  const Value& values_of(Unit unit) const { return unit % 2 == 0 ? values_[unit / 2] : quantized_[unit / 2]; }

  /// Where the next set of a unit ends.
  std::int64_t next_end(Unit unit) const {
    const Value& value = values_of(unit);
    if (value.crossbar) return std::min(value.rows, done_[unit] + at_once_[unit / 2]);
    return value.in_rows ? done_[unit] + 1 : value.rows;
  }

  /// Makes all rows of a unit, and before each what it needs.
  template <typename Take>
  bool demand(Unit last, const Take& take) {
    using Kind = RowSet::Kind;
    stack_.assign(1, {last, values_of(last).rows});
    while (!stack_.empty()) {
      const Demand now = stack_.back();
      if (done_[now.unit] >= now.end) {
        stack_.pop_back();
        continue;
      }
      std::int64_t end = next_end(now.unit);
      if (const std::optional<Demand> missing = missing_for(now.unit, end)) {
        stack_.push_back(*missing);
        continue;
      }
      // What can be had without making anything else comes along, where it is wanted and costs no crossbar's time.
      const bool multiplies = values_of(now.unit).crossbar;
      while (!multiplies && end < now.end && !missing_for(now.unit, end + 1)) ++end;
      std::int64_t& rows = done_[now.unit];
      const Kind kind = now.unit % 2 == 1 ? Kind::kQuantize : multiplies ? Kind::kMultiply : Kind::kCompute;
      if (!take(RowSet{kind, now.unit / 2, rows, end - rows})) return false;
      rows = end;
    }
    return true;
  }

  const Graph& graph_;
  std::vector<Value> values_, quantized_;  // by node
  std::size_t tabled_ = 0;
  std::span<const std::int64_t> at_once_;
  std::vector<std::int64_t> done_;  // rows, by unit
  std::vector<Demand> stack_;
};

}  // namespace cimq::compiler
