#include <algorithm>
#include <span>

#include "compiler/ir/rows.h"
#include "compiler/passes/layer_lowering.h"
#include "compiler/passes/lower.h"

namespace cimq::compiler {
namespace {

using Kind = RowSet::Kind;

constexpr const char* kStep = "i";  // the loop over row sets that come again
constexpr std::size_t kLongestBody = 512;

/// `times` times the same `length` row sets, each time with later rows.
struct Repetition {
  std::size_t length = 1, times = 1;
  std::size_t saved() const { return length * (times - 1); }
};

/// Whether two sets are about the same but for where they begin.
bool alike(const RowSet& a, const RowSet& b) { return a.kind == b.kind && a.node == b.node && a.count == b.count; }

/// How often the first `length` of the sets come, one after the other, every time moved on by as many rows.
std::size_t times_of(std::span<const RowSet> sets, std::size_t length) {
  std::size_t times = 1;
  for (; (times + 1) * length <= sets.size(); ++times) {
    for (std::size_t j = 0; j < length; ++j) {
      const RowSet& now = sets[times * length + j];
      const std::int64_t step = sets[length + j].first - sets[j].first;
      if (!alike(now, sets[j]) || now.first - sets[(times - 1) * length + j].first != step) return times;
    }
  }
  return times;
}

/// The repetition at the beginning of the sets that saves most.
Repetition repetition_at(std::span<const RowSet> sets) {
  Repetition best;
  for (std::size_t length = 1; length <= std::min(kLongestBody, sets.size() / 2); ++length) {
    if (!alike(sets[0], sets[length])) continue;
    const Repetition found{length, times_of(sets, length)};
    if (found.saved() > best.saved()) best = found;
  }
  return best;
}

class RowLowering {
 public:
  explicit RowLowering(const Module& module)
      : graph_(module.graph), builder_(module), layers_(lowerings_of(builder_, module)) {
    layer_of_.resize(graph_.nodes.size());
    for (std::size_t layer = 0; layer < tiles_of(module).size(); ++layer) {
      layer_of_[tiles_of(module)[layer].node] = layer;
    }
  }

  Program run(std::span<const RowSet> sets) {
    for (LayerLowering& layer : layers_) layer.setup();
    builder_.emit(isa::Ready{});
    while (!sets.empty()) {
      const Repetition repetition = repetition_at(sets);
      if (repetition.times == 1) {
        emit(sets[0], {sets[0].first, {}});
      } else {
        builder_.samples([&] { repeat(sets, repetition); });
      }
      sets = sets.subspan(repetition.length * repetition.times);
    }
    return builder_.finish();
  }

 private:
  void repeat(std::span<const RowSet> sets, const Repetition& repetition) {
    builder_.loop(kStep, static_cast<std::int64_t>(repetition.times), [&] {
      for (std::size_t j = 0; j < repetition.length; ++j) {
        const std::int64_t step = sets[repetition.length + j].first - sets[j].first;
        emit(sets[j], {sets[j].first, {{kStep, step}}});
      }
    });
  }

  void emit(const RowSet& set, const isa::Index& first) {
    const Node& node = graph_.nodes[set.node];
    const Shape& shape = set.kind == Kind::kQuantize ? graph_.shape_of(node.inputs[0]) : node.shape;
    std::optional<isa::Rows> rows;
    if (set.count < rows_of(shape)) rows = isa::Rows{first, set.count};
    if (set.kind == Kind::kCompute) {
      builder_.samples([&] { builder_.compute(node, rows); });
      return;
    }
    LayerLowering& layer = layers_[layer_of_[set.node]];
    if (set.kind == Kind::kQuantize) {
      layer.quantize(rows);
      return;
    }
    if (rows) {
      layer.multiply(*rows);
    } else {
      layer.multiply();
    }
    layer.requantize(rows);
  }

  const Graph& graph_;
  ProgramBuilder builder_;
  std::vector<LayerLowering> layers_;
  std::vector<std::size_t> layer_of_;  // by node
};

void lower_in_rows(Module& module, Context&) { module.program = RowLowering(module).run(schedule_of(module)); }

}  // namespace

Pass lower_in_rows_pass() {
  return {"lower_in_rows", {Part::kTiles, Part::kPlacement, Part::kSchedule}, Part::kProgram, lower_in_rows};
}

}  // namespace cimq::compiler
