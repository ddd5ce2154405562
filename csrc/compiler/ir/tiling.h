// A layer laid out as cells, and the parts of it that fit one crossbar each (docs/bundle.md).
#pragma once

#include <cstdint>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler {

/// Columns of the cell matrix: output-major, then slice, then the two of a pair (differential_column); the reference
/// column of `offset` is the last. Rows: input-major, then the two of a pair (differential_row). Tiles are cut from it
/// row by row: tile number = row tile * column_tiles + column tile.
struct LayerTiling {
  std::int64_t rows = 0, columns = 0;  ///< cells of one matrix
  std::int64_t row_tiles = 0, column_tiles = 0;
  int slices = 0;  ///< cells per weight
  int digits = 0;  ///< input cycles per activation
  int array_rows = 0, array_columns = 0;

  std::int64_t tiles() const { return row_tiles * column_tiles; }
  /// The cells of a tile, 0 <= tile < tiles().
  isa::Region region(std::int64_t tile) const;
};

/// Tiles of one group of the layer on the network's machine. Throws Error beyond kMaxTiles, and as hardware_of.
LayerTiling tile_layer(const Hardware& network, const CrossbarLayer& layer);

}  // namespace cimq::compiler
