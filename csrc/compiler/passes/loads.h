// A module's crossbar layers and machine as plans take them (plan/stationary.h).
#pragma once

#include <vector>

#include "compiler/cost/rounds.h"
#include "compiler/ir/module.h"
#include "compiler/plan/options.h"

namespace cimq::compiler {

/// A layer on its own machine (network's and what it chooses), without copies; `passes`: its crossbars hold an input
/// (ir/graph.h, writes_operand).
LayerLoad load_of(const Hardware& network, const CrossbarLayer& layer, const LayerTiling& tiling, bool passes);

/// Every crossbar layer, without copies.
std::vector<LayerLoad> loads_of(const Module& module);

/// How a crossbar layer comes in rows; at once where it cannot.
LayerRows layer_rows(const Graph& graph, const Node& node);

/// How every crossbar layer does.
std::vector<LayerRows> rows_of_layers(const Module& module);

/// Without a pool; a tile that is written serves `batch` samples.
PoolMachine pool_machine(const Hardware& hardware, std::int64_t batch = 1);

}  // namespace cimq::compiler
