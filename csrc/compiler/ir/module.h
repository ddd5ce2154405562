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

/// Where the tiles of a layer are. A tile stays in its crossbar from the loading of the network on, or is written once
/// per sample (and group).
struct LayerPlacement {
  std::vector<std::int64_t> crossbars;  ///< [tile] or, where every group has its own, [group][tile]
  std::int64_t resident = 0;            ///< so many of them, from the first on, stay
};

/// Parts of a module, in the order in which they come to be.
enum class Part { kTiles, kPlacement, kProgram };
std::string_view name_of(Part part);

struct Module {
  Graph graph;
  Hardware hardware;
  std::optional<std::vector<TiledLayer>> tiles;  ///< crossbar layers in order of execution
  std::optional<std::vector<LayerPlacement>> placement;
  std::optional<Program> program;

  bool has(Part part) const;
};

}  // namespace cimq::compiler
