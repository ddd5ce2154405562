// What passes work on: a network on its way to a program. Every pass adds one part, which later ones need.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/ir/tiling.h"
#include "compiler/isa/program.h"

namespace cimq::compiler {

/// A crossbar layer and how its matrix is cut.
struct TiledLayer {
  std::size_t node = 0;  ///< in graph.nodes
  LayerTiling tiling;
};

/// Where the tiles of a layer are, those of all groups one after the other: [group][copy][tile].
struct LayerPlacement {
  /// So many of them, from the first on, stay in crossbars of their own from the loading of the network on: whole
  /// groups, or tiles of the only one.
  std::int64_t resident = 0;
  std::int64_t first = 0;   ///< the crossbar of the first that stays; the others follow
  std::int64_t copies = 1;  ///< of every tile; with more than one, all of the layer stays or all of it passes
  std::vector<std::int64_t> crossbars;  ///< through which the rest passes, in turn

  /// Where a tile is when it is used; the layer has `groups` groups of `tiles` tiles. A round of several groups takes
  /// as many as fit as a whole.
  std::int64_t crossbar_of(std::int64_t group, std::int64_t tile, std::int64_t groups, std::int64_t tiles,
                           std::int64_t copy = 0) const;
};

/// A step of a schedule: rows [first, first + count) of a value.
struct RowSet {
  enum class Kind { kQuantize, kMultiply, kCompute };  ///< the input of a layer; a layer; any other node

  Kind kind = Kind::kCompute;
  std::size_t node = 0;
  std::int64_t first = 0, count = 0;
};

/// Parts of a module, in the order in which they come to be.
enum class Part { kTiles, kCopies, kPlacement, kSchedule, kProgram };
std::string_view name_of(Part part);

struct Module {
  Graph graph;
  Hardware hardware;
  std::int64_t batch = 1;                           ///< samples that its program computes together
  std::optional<std::vector<TiledLayer>> tiles;     ///< crossbar layers in order of execution
  std::optional<std::vector<std::int64_t>> copies;  ///< of the tiles of each of them
  std::optional<std::vector<LayerPlacement>> placement;
  std::optional<std::vector<RowSet>> schedule;  ///< where layers take turns by rows
  std::optional<Program> program;

  bool has(Part part) const;
};

// Parts of a module; Error for one that is not there yet.
const std::vector<TiledLayer>& tiles_of(const Module& module);
const std::vector<std::int64_t>& copies_of(const Module& module);
const std::vector<LayerPlacement>& placement_of(const Module& module);
const std::vector<RowSet>& schedule_of(const Module& module);
const Program& program_of(const Module& module);

}  // namespace cimq::compiler
