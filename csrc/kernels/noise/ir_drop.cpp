#include "kernels/noise/ir_drop.h"

#include <algorithm>

#include "common/cell_model.h"

namespace cimq::kernels {
namespace {

/// sums[i] = sum over j of (min(i, j) + 1) * g[j], in one pass from each end.
void weighted_sums(const std::vector<std::int32_t>& g, std::vector<std::int64_t>& sums) {
  std::int64_t beyond = 0;  // sum of g[j] for j >= i
  for (const std::int32_t value : g) beyond += value;
  std::int64_t sum = 0;
  sums.resize(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) {
    sum += beyond;
    sums[i] = sum;
    beyond -= g[i];
  }
}

/// One tile as a dense array of cells.
class TileOfCells {
 public:
  TileOfCells(const MvmPlan& plan, std::vector<std::int16_t>& cells, std::int64_t row_begin, std::int64_t row_end,
              std::int64_t column_begin, std::int64_t column_end)
      : cells_(cells), rows_(row_end - row_begin), columns_(column_end - column_begin) {
    index_.resize(static_cast<std::size_t>(rows_ * columns_));
    const int of_column = column_polarities(plan.mapping);
    const int of_row = row_polarities(plan.mapping);
    std::size_t at = 0;
    for (std::int64_t row = row_begin; row < row_end; ++row) {
      for (std::int64_t column = column_begin; column < column_end; ++column) {
        const std::int64_t polarity = column % of_column + row % of_row;  // one of them is 0: no mapping pairs both
        const std::int64_t slot = column / of_column;
        const std::int64_t input = row / of_row;
        const std::int64_t plane = slot % plan.n_w * plan.polarities() + polarity;
        index_[at++] = static_cast<std::size_t>((plane * plan.outputs + slot / plan.n_w) * plan.inputs + input);
      }
    }
  }

  void attenuate(const IrDrop& drop) {
    std::vector<std::int64_t> row_sums(index_.size());
    std::vector<std::int64_t> column_sums(index_.size());
    std::vector<std::int32_t> line;
    std::vector<std::int64_t> sums;
    for (std::int64_t k = 0; k < rows_; ++k) {
      line.clear();
      for (std::int64_t j = 0; j < columns_; ++j) line.push_back(cell(k, j));
      weighted_sums(line, sums);
      std::copy(sums.begin(), sums.end(), row_sums.begin() + k * columns_);
    }
    for (std::int64_t j = 0; j < columns_; ++j) {
      line.clear();
      for (std::int64_t k = 0; k < rows_; ++k) line.push_back(cell(k, j));
      weighted_sums(line, sums);
      for (std::int64_t k = 0; k < rows_; ++k) column_sums[at(k, j)] = sums[static_cast<std::size_t>(k)];
    }
    for (std::int64_t k = 0; k < rows_; ++k) {
      for (std::int64_t j = 0; j < columns_; ++j) {
        std::int16_t& g = cells_[index_[at(k, j)]];
        const std::int64_t own = (k + 1) * g;
        g = static_cast<std::int16_t>(attenuated(drop, g, row_sums[at(k, j)], own, column_sums[at(k, j)] - own));
      }
    }
  }

 private:
  std::size_t at(std::int64_t k, std::int64_t j) const { return static_cast<std::size_t>(k * columns_ + j); }
  std::int16_t cell(std::int64_t k, std::int64_t j) const { return cells_[index_[at(k, j)]]; }

  std::vector<std::int16_t>& cells_;
  std::int64_t rows_, columns_;
  std::vector<std::size_t> index_;  ///< of each cell in cells_
};

}  // namespace

IrDrop IrDrop::of(const Hardware& hardware) {
  constexpr double kMicro = 1e-6;
  const double unit = level_step_microsiemens(hardware) * kMicro / kConductanceUnit;
  return {hardware.wires.word_line_ohm * unit, hardware.wires.bit_line_ohm * unit, hardware.wires.mean_activity};
}

void apply_ir_drop(const IrDrop& drop, const MvmPlan& plan, const Hardware& hardware,
                   std::vector<std::int16_t>& cells) {
  if (!drop.any()) return;
  // The reference column of `offset`, taken as exact, draws no current here.
  const std::int64_t columns = plan.columns - reference_columns(plan.mapping);
  const std::int64_t tile_rows = used_rows(hardware);
  const std::int64_t cols = hardware.cols;
  for (std::int64_t row = 0; row < plan.rows_needed; row += tile_rows) {
    for (std::int64_t column = 0; column < columns; column += cols) {
      TileOfCells(plan, cells, row, std::min(plan.rows_needed, row + tile_rows), column,
                  std::min(columns, column + cols))
          .attenuate(drop);
    }
  }
}

}  // namespace cimq::kernels
