// The lists of passes, and compilation by one of them.
#pragma once

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// The closed form of the latency model spelt out: one pass over the layers, every tile written once per sample.
Pipeline closed_form_pipeline();

/// Compiles `graph` for `hardware` by the closed-form pipeline. Throws Error for a network with more than kMaxTiles
/// tiles.
Module compile_graph(const Graph& graph, const Hardware& hardware, Context& context);
Module compile_graph(const Graph& graph, const Hardware& hardware);

}  // namespace cimq::compiler
