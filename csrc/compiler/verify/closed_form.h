// What a program of the closed-form pipeline must be beside right (program.h): the closed form spelt out.
#pragma once

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler {

/// Throws Error unless the writes and MVMs of one sample are those of the latency model (cost/tier1.h).
void check_closed_form(const ProgramCounts& counts, const Graph& graph, const Hardware& hardware);

}  // namespace cimq::compiler
