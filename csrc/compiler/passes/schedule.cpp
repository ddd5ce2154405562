#include "compiler/passes/schedule.h"

#include <utility>

#include "compiler/ir/rows.h"
#include "compiler/plan/options.h"
#include "compiler/plan/row_order.h"

namespace cimq::compiler {
namespace {

std::int64_t rows_at_once_of(const Module& module, std::size_t layer) {
  const Node& node = module.graph.nodes[tiles_of(module)[layer].node];
  const LayerPlacement& placement = placement_of(module)[layer];
  const std::int64_t all = crossbar_of(node).repeats * tiles_of(module)[layer].tiling.tiles() * placement.copies;
  const std::int64_t rows = rows_of(node.shape);
  if (placement.resident < all || !comes_in_rows(module.graph, node)) return rows;
  return rows_at_once({rows, vectors_per_row(node)}, placement.copies);
}

void schedule(Module& module, Context&) {
  std::vector<std::int64_t> at_once(module.graph.nodes.size(), 1);
  for (std::size_t layer = 0; layer < tiles_of(module).size(); ++layer) {
    at_once[tiles_of(module)[layer].node] = rows_at_once_of(module, layer);
  }
  std::vector<RowSet> sets;
  RowOrder(module.graph).run(at_once, [&sets](const RowSet& set) {
    RowSet* last = sets.empty() ? nullptr : &sets.back();
    if (set.kind != RowSet::Kind::kMultiply && last != nullptr && last->kind == set.kind && last->node == set.node) {
      last->count += set.count;
    } else {
      sets.push_back(set);
    }
    return true;
  });
  module.schedule = std::move(sets);
}

}  // namespace

Pass schedule_pass() { return {"schedule", {Part::kTiles, Part::kPlacement}, Part::kSchedule, schedule}; }

}  // namespace cimq::compiler
