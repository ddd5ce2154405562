// Columns with read noise: exact currents and variances from the tile kernels, then the converter column by column.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/mvm/digit_block.h"
#include "kernels/cpu/mvm/packed_cells.h"
#include "kernels/cpu/tile/tile_kernel.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels::cpu {

class ReadColumns {
 public:
  ReadColumns(const MvmPlan& plan, const PackedCells& cells, const ColumnNoise& noise, TileKernel kernel);

  /// The batch rows that follow are the accesses first_access, first_access + 1, ...
  void begin_block(std::uint64_t first_access, std::int64_t rows);

  /// As the tile kernel with `args` (whose digits are int16, or of one bit, whatever the kernel takes, and whose
  /// converter settings are the slice's), with noise on every column.
  /// @param plane  of cells.planes()
  void run(const TileArgs& args, std::int64_t panel, std::size_t plane, std::int64_t tile);

  /// The currents with their noise alone, [rows of args][width]; valid until the next call. Columns beyond the panel's
  /// outputs hold anything.
  const std::int32_t* currents(const TileArgs& args, std::int64_t panel, std::size_t plane, std::int64_t tile);

 private:
  void square_digits(const TileArgs& args);
  void add_noise(const TileArgs& args, int row, std::int64_t panel, std::size_t plane, std::int64_t tile);
  /// Without a converter.
  static void add_row(const TileArgs& args, int row, const std::int32_t* currents);

  const MvmPlan& plan_;
  const PackedCells& cells_;
  const ColumnNoise& noise_;
  TileKernel kernel_;
  std::vector<PhiloxCounter> keys_;        ///< [rows of the block]
  std::vector<TileRow> rows_;              ///< every digit of every row on its own
  std::vector<std::int16_t> squares_;      ///< digits, squared; proportional noise
  std::vector<std::int64_t> square_sums_;  ///< [digit rows] sum of the squared digits; constant noise
  std::vector<std::int32_t> currents_;     ///< [digit rows][width]
  std::vector<std::int32_t> variances_;    ///< [digit rows][width], proportional noise
  std::vector<std::int32_t> lo_;           ///< [width] the converter of every column
  std::vector<float> inv_lsb_;             ///< [width]
};

}  // namespace cimq::kernels::cpu
