// The lists of passes, and compilation by one of them.
#pragma once

#include <string_view>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// "closed_form": the closed form of the latency model spelt out: one pass over the layers, every tile written once per
/// sample. "stationary": tiles stay in their crossbars where they fit. "pipelined": the same, and
/// layers overlap in time where that is faster. Throws Error for another name.
Pipeline pipeline_named(std::string_view name);

/// Compiles `graph` for `hardware`, with the context's copies and batch. Throws Error for a network with more than
/// kMaxTiles tiles, and for a batch beyond kMaxBatch.
Module compile_graph(const Graph& graph, const Hardware& hardware, const Pipeline& pipeline, Context& context);
/// By the closed form.
Module compile_graph(const Graph& graph, const Hardware& hardware);

}  // namespace cimq::compiler
