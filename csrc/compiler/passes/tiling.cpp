#include "compiler/passes/tiling.h"

#include <algorithm>

#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"

namespace cimq::compiler {

LayerShape latency_shape(const CrossbarLayer& layer) {
  return {layer.layer_name, layer.outputs, layer.inputs_per_output, layer.invocations, layer.repeats};
}

LayerTiling tile_layer(const Hardware& hardware, const CrossbarLayer& layer) {
  const std::int64_t count = tile_count(hardware, latency_shape(layer), layer.weight_bits);
  check(count <= kMaxTiles, "layer '", layer.layer_name, "' needs ", count, " crossbars, a program lists at most ",
        kMaxTiles);
  LayerTiling tiling;
  tiling.slices = weight_slices(hardware, layer.weight_bits);
  tiling.digits = input_digits(hardware, layer.act_bits);
  tiling.rows = physical_rows(hardware.mapping, layer.inputs_per_output);
  tiling.columns = physical_columns(hardware.mapping, layer.outputs, tiling.slices);
  tiling.row_tiles = ceil_div<std::int64_t>(tiling.rows, hardware.rows);
  tiling.column_tiles = ceil_div<std::int64_t>(tiling.columns, hardware.cols);
  // The closed form counts the same tiles in its own way: a difference would be a fault of this file or of that one.
  check(tiling.row_tiles * tiling.column_tiles == count, "layer '", layer.layer_name,
        "': ", tiling.row_tiles * tiling.column_tiles, " tiles laid out, ", count, " counted");
  for (std::int64_t r = 0; r < tiling.row_tiles; ++r) {
    for (std::int64_t c = 0; c < tiling.column_tiles; ++c) {
      Tile tile;
      tile.number = r * tiling.column_tiles + c;
      tile.row_begin = r * hardware.rows;
      tile.row_end = std::min<std::int64_t>(tiling.rows, tile.row_begin + hardware.rows);
      tile.column_begin = c * hardware.cols;
      tile.column_end = std::min<std::int64_t>(tiling.columns, tile.column_begin + hardware.cols);
      tiling.tiles.push_back(tile);
    }
  }
  return tiling;
}

}  // namespace cimq::compiler
