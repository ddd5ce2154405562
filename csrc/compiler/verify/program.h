// Checks that a program does what its network needs, by walking it; nothing is executed.
#pragma once

#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler {

/// Verifies `program` against the graph that it was compiled from, whatever the order of its instructions:
///  - indices, tiles, digits and crossbars are within their bounds;
///  - every value is there before it is read, and a register holds what its reader needs: the quantised input of the
///    layer, the input vector that the MVM names, in the same iteration;
///  - an MVM uses a crossbar that holds just its tile, of its group, also in later iterations and for later samples;
///  - every product of every layer (tile, digit, input vector, group) is made exactly once, and SHADD and REQ come when
///    all that they add up is there;
///  - every node of the graph is computed exactly once, by its own kind of op and its own tensors;
///  - the header's totals are those of the instructions.
/// Loops are looked at without running them, as docs/isa.md ("Loops") allows: iterations do not use one another's
/// results, and what they do follows one another. Throws Error naming the instruction (its line in program.jsonl).
ProgramCounts verify_program(const Program& program, const Graph& graph);

}  // namespace cimq::compiler
