// Conductances by their definition: every cell's own random words, every cell's own sum over its row and column.
#include "kernels/programmed_cells.h"

#include <algorithm>

#include "kernels/cell_noise.h"
#include "kernels/ir_drop.h"

namespace cimq::kernels {
namespace {

struct Cell {
  CellPosition position;
  std::int16_t conductance;
};

/// Sums over all other cells of the tile that share the row or the column.
std::int16_t after_wires(const IrDrop& drop, const std::vector<Cell>& cells, const Cell& cell, std::int64_t tile_rows,
                         std::int64_t tile_columns) {
  const CellPosition own = cell.position;
  std::int64_t row_sum = 0;
  std::int64_t column_sum = 0;
  for (const Cell& other : cells) {
    const CellPosition at = other.position;
    if (at.row / tile_rows != own.row / tile_rows || at.column / tile_columns != own.column / tile_columns) continue;
    if (at.row == own.row) {
      row_sum += (std::min(at.column % tile_columns, own.column % tile_columns) + 1) * other.conductance;
    } else if (at.column == own.column) {
      column_sum += (std::min(at.row % tile_rows, own.row % tile_rows) + 1) * other.conductance;
    }
  }
  const std::int64_t itself = (own.row % tile_rows + 1) * cell.conductance;
  return static_cast<std::int16_t>(attenuated(drop, cell.conductance, row_sum, itself, column_sum));
}

}  // namespace

std::vector<std::int16_t> programmed_cells_reference(const Hardware& hardware, const MvmPlan& plan,
                                                     const MvmOptions& options, const std::int8_t* w) {
  const CellNoise noise(hardware, options);
  std::vector<Cell> cells;
  for (int slice = 0; slice < plan.n_w; ++slice) {
    for (int polarity = 0; polarity < plan.polarities(); ++polarity) {
      for (std::int64_t o = 0; o < plan.outputs; ++o) {
        for (std::int64_t k = 0; k < plan.inputs; ++k) {
          const std::int32_t level = cell_level(plan, w[o * plan.inputs + k], slice, polarity);
          const auto conductance = static_cast<std::int16_t>(
              noise.conductance(level, options.first_output + o, k, plan.inputs, slice, polarity));
          cells.push_back({cell_position(plan.mapping, plan.n_w, o, k, slice, polarity), conductance});
        }
      }
    }
  }
  const IrDrop drop = IrDrop::of(hardware);
  const std::int64_t tile_rows =
      plan.mapping == Mapping::kDifferentialRow ? 2 * plan.inputs_per_tile : plan.inputs_per_tile;
  std::vector<std::int16_t> values;
  values.reserve(cells.size());
  for (const Cell& cell : cells) {
    values.push_back(drop.any() ? after_wires(drop, cells, cell, tile_rows, hardware.cols) : cell.conductance);
  }
  return values;
}

}  // namespace cimq::kernels
