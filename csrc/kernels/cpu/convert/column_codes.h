// Converters with a range per column (pair): exact currents from the tile kernels, then the codes column by column.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/mvm/packed_cells.h"
#include "kernels/cpu/tile/tile_kernel.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels::cpu {

class ColumnCodes {
 public:
  /// @param plan  with ranges per column
  ColumnCodes(const MvmPlan& plan, const PackedCells& cells, TileKernel kernel);

  /// The ranges of a slice's columns, for tables of partial sums, which convert as they go.
  void set_ranges(TileArgs& args, std::int64_t panel, int slice) const {
    const std::int64_t first = first_of(panel, slice);
    args.column_lo = lo_.data() + first;
    args.column_inv_lsb = inv_lsb_.data() + first;
  }

  /// As the tile kernel with `args`, with the ranges of the slice's columns.
  void run(const TileArgs& args, std::int64_t panel, int slice);

  /// The same for currents [rows of args][width] that are there already.
  void convert(const TileArgs& args, const std::int32_t* currents, std::int64_t panel, int slice) const;

  /// Memory that run() takes per digit row.
  static constexpr std::int64_t kBytesPerDigitRow = kPanelWidth * 4 + sizeof(TileRow);

 private:
  std::int64_t first_of(std::int64_t panel, int slice) const { return slice * padded_outputs_ + panel * kPanelWidth; }

  const MvmPlan& plan_;
  TileKernel kernel_;
  std::int64_t padded_outputs_;
  std::vector<std::int32_t> lo_;        ///< [n_w][padded outputs], in the units of currents
  std::vector<float> inv_lsb_;          ///< likewise
  std::vector<TileRow> rows_;           ///< every digit of every row on its own
  std::vector<std::int32_t> currents_;  ///< [digit rows][width]
};

}  // namespace cimq::kernels::cpu
