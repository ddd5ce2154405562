#include "compiler/ir/tiling.h"

#include <algorithm>

#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"
#include "compiler/ir/limits.h"

namespace cimq::compiler {

isa::Region LayerTiling::region(std::int64_t tile) const {
  const std::int64_t row = tile / column_tiles * array_rows;
  const std::int64_t column = tile % column_tiles * array_columns;
  return {row, std::min(rows, row + array_rows), column, std::min(columns, column + array_columns)};
}

LayerTiling tile_layer(const Hardware& network, const CrossbarLayer& layer) {
  const Hardware hardware = hardware_of(network, layer);
  LayerTiling tiling;
  tiling.slices = weight_slices(hardware, layer.weight_bits);
  tiling.digits = input_digits(hardware, layer.act_bits);
  tiling.rows = physical_rows(hardware.mapping, layer.inputs_per_output);
  tiling.columns = physical_columns(hardware.mapping, layer.outputs, tiling.slices);
  tiling.array_rows = hardware.rows;
  tiling.array_columns = hardware.cols;
  tiling.row_tiles = ceil_div<std::int64_t>(tiling.rows, hardware.rows);
  tiling.column_tiles = ceil_div<std::int64_t>(tiling.columns, hardware.cols);
  check(tiling.tiles() <= kMaxTiles, "layer '", layer.layer_name, "' needs ", tiling.tiles(),
        " crossbars, a program lists at most ", kMaxTiles);
  return tiling;
}

}  // namespace cimq::compiler
