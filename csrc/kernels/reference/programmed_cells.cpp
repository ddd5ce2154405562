// Conductances by their definition: every cell's own random words, every cell's own sum over its row and column.
#include "kernels/programmed_cells.h"

#include <algorithm>

#include "kernels/noise/cell_noise.h"
#include "kernels/noise/ir_drop.h"

namespace cimq::kernels {
namespace {

struct Cell {
  CellPosition position;
  std::int16_t conductance;
};

/// The array as it stands: conductance of every crossing of a word line and a bit line, 0 where no cell is.
class Array {
 public:
  Array(const std::vector<Cell>& cells, std::int64_t tile_rows, std::int64_t tile_columns)
      : tile_rows_(tile_rows), tile_columns_(tile_columns) {
    for (const Cell& cell : cells) {
      rows_ = std::max(rows_, cell.position.row + 1);
      columns_ = std::max(columns_, cell.position.column + 1);
    }
    conductances_.resize(static_cast<std::size_t>(rows_ * columns_));
    for (const Cell& cell : cells) {
      conductances_[static_cast<std::size_t>(cell.position.row * columns_ + cell.position.column)] = cell.conductance;
    }
  }

  /// Sums over the cells of the tile in the same row, and over the others in the same column.
  std::int16_t after_wires(const IrDrop& drop, const Cell& cell) const {
    const CellPosition own = cell.position;
    const std::int64_t first_row = own.row / tile_rows_ * tile_rows_;
    const std::int64_t first_column = own.column / tile_columns_ * tile_columns_;
    std::int64_t row_sum = 0;
    for (std::int64_t c = first_column; c < std::min(first_column + tile_columns_, columns_); ++c) {
      row_sum += (std::min(c, own.column) - first_column + 1) * at(own.row, c);
    }
    std::int64_t column_sum = 0;
    for (std::int64_t r = first_row; r < std::min(first_row + tile_rows_, rows_); ++r) {
      if (r != own.row) column_sum += (std::min(r, own.row) - first_row + 1) * at(r, own.column);
    }
    const std::int64_t itself = (own.row - first_row + 1) * cell.conductance;
    return static_cast<std::int16_t>(attenuated(drop, cell.conductance, row_sum, itself, column_sum));
  }

 private:
  std::int64_t at(std::int64_t row, std::int64_t column) const {
    return conductances_[static_cast<std::size_t>(row * columns_ + column)];
  }

  std::int64_t tile_rows_;
  std::int64_t tile_columns_;
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::vector<std::int16_t> conductances_;
};

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
  std::vector<std::int16_t> values;
  values.reserve(cells.size());
  const IrDrop drop = IrDrop::of(hardware);
  if (!drop.any()) {
    for (const Cell& cell : cells) values.push_back(cell.conductance);
    return values;
  }
  const Array array(cells, used_rows(hardware), hardware.cols);
  for (const Cell& cell : cells) values.push_back(array.after_wires(drop, cell));
  return values;
}

}  // namespace cimq::kernels
