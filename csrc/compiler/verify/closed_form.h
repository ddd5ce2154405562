// What a program of the closed-form pipeline must be beside right (program.h): the closed form spelt out.
#pragma once

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler {

/// Throws Error unless the writes and MVMs of a batch are those of the latency model (cost/network.h).
void check_closed_form(const Program& program, const Graph& graph, const Hardware& hardware);

}  // namespace cimq::compiler
