// Cuts the matrix of a layer into tiles that fit one crossbar each (docs/bundle.md).
#pragma once

#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/latency/tier1.h"

namespace cimq::compiler {

/// Part of a layer's physical matrix: cell rows [row_begin, row_end), cell columns [column_begin, column_end).
struct Tile {
  std::int64_t number = 0;  ///< within the layer, row tiles outermost
  std::int64_t row_begin = 0, row_end = 0;
  std::int64_t column_begin = 0, column_end = 0;
  std::int64_t crossbar = 0;  ///< the array that it is written to
};

/// A layer laid out as cells. Columns: output-major, then slice, then the two of a pair (differential_column); the
/// reference column of `offset` is the last. Rows: input-major, then the two of a pair (differential_row).
struct LayerTiling {
  std::int64_t rows = 0, columns = 0;  ///< cells of one matrix
  std::int64_t row_tiles = 0, column_tiles = 0;
  int slices = 0;  ///< cells per weight
  int digits = 0;  ///< input cycles per activation
  std::vector<Tile> tiles;
};

/// Most tiles that a network may have: a program lists each of them.
inline constexpr std::int64_t kMaxTiles = std::int64_t{1} << 20;

/// Tiles of one group of the layer. Throws Error beyond kMaxTiles.
LayerTiling tile_layer(const Hardware& hardware, const CrossbarLayer& layer);

/// The layer as the latency model takes it.
LayerShape latency_shape(const CrossbarLayer& layer);

}  // namespace cimq::compiler
