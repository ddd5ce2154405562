// Graph -> Program: layers in order, weights written tile by tile, counted loops over pixels and groups.
#pragma once

#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler {

struct CompiledLayer {
  std::string name, node;
  OpKind op = OpKind::kCrossbarLinear;
  CrossbarLayer facts;
  LayerTiling tiling;
  Tier1Cost cost;
};

struct CompiledProgram {
  Program program;
  std::vector<CompiledLayer> layers;
  std::int64_t time_ps = 0;  ///< closed form
};

/// Compiles for `hardware`. Writes and MVMs of the program equal the closed form's. Throws Error for a network with
/// more than kMaxTiles tiles.
CompiledProgram compile_graph(const Graph& graph, const Hardware& hardware);

}  // namespace cimq::compiler
