#include "compiler/feedback/layer_timing.h"

#include <algorithm>
#include <numeric>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/ir/tiling.h"
#include "compiler/passes/loads.h"
#include "compiler/sim/steps.h"

namespace cimq::compiler {
namespace {

constexpr std::uint64_t kMostEvents = std::uint64_t{1} << 62;

}  // namespace

TileTiming LayerTiming::slowest_of(std::int64_t begin, std::int64_t end) const {
  if (end - begin >= static_cast<std::int64_t>(columns.size())) return slowest;
  TileTiming found;
  for (std::int64_t t = begin; t < end; ++t) {
    found.hold_ps = std::max(found.hold_ps, tile(t).hold_ps);
    found.code_ps = std::max(found.code_ps, tile(t).code_ps);
  }
  return found;
}

bool operator==(const LayerTiming& a, const LayerTiming& b) {
  return a.load == b.load && a.columns == b.columns && a.once == b.once && a.vector_bytes == b.vector_bytes &&
         a.result_bytes == b.result_bytes;
}

LayerTiming timing_of(const Hardware& hardware, const CrossbarLayer& layer, bool passes) {
  const LayerTiling tiling = tile_layer(hardware, layer);
  const sim::LayerFacts facts = sim::facts_of(hardware, layer);
  const std::int64_t digits = tiling.digits;
  LayerTiming timing;
  timing.load = load_of(hardware, layer, tiling, passes);
  for (const sim::LayerFacts::ColumnTile& column : facts.columns) {
    const std::int64_t hold = digits * column.digit.step_ps();
    timing.columns.push_back(
        {static_cast<std::uint64_t>(hold), static_cast<std::uint64_t>(hold + column.digit.drain_ps)});
  }
  for (const TileTiming& tile : timing.columns) {
    timing.slowest.hold_ps = std::max(timing.slowest.hold_ps, tile.hold_ps);
    timing.slowest.code_ps = std::max(timing.slowest.code_ps, tile.code_ps);
  }
  if (std::ranges::all_of(timing.columns, [&](const TileTiming& tile) { return tile == timing.slowest; })) {
    timing.columns.resize(1);
  }
  std::int64_t lines = 0;
  for (const sim::LayerFacts::ColumnTile& column : facts.columns) lines += column.lines;
  const std::int64_t rows = std::reduce(facts.rows.begin(), facts.rows.end());
  const auto count = [&](EnergyPart part, std::int64_t each) {
    const std::uint64_t all = saturating_product(1, facts.groups, facts.vectors, digits, each);
    check(all <= kMostEvents, "layer '", layer.layer_name, "' has more than 2^62 events of one kind");
    timing.once[static_cast<std::size_t>(part)] = static_cast<std::int64_t>(all);
  };
  count(EnergyPart::kMvm, tiling.tiles());
  count(EnergyPart::kAdc, tiling.row_tiles * lines);
  count(EnergyPart::kDac, tiling.column_tiles * rows);
  count(EnergyPart::kDigital, tiling.row_tiles * lines);
  timing.vector_bytes = facts.vector_bytes;
  timing.result_bytes = facts.groups * facts.vectors * facts.result_bytes;
  return timing;
}

}  // namespace cimq::compiler
