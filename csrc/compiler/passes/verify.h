// Checks that a program does what its network needs, by walking it; nothing is executed.
#pragma once

#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler {

struct ProgramCounts {
  std::int64_t writes = 0, mvms = 0;
};

/// Verifies `program` against the graph it was compiled from:
///  - every value is produced before it is read, and every node of the graph exactly once, by its own kind of op;
///  - every crossbar layer has its own CFG, and the tiles written for it cover its matrix without overlap, each within
///    one crossbar of the hardware;
///  - a layer's values go from its input through QUANT, IM2COL, MVM, SHADD and REQ, with its own tensors, and `at` and
///    `repeat` count its input vectors and groups;
///  - an MVM uses a crossbar that holds just its tile, also in later iterations of the loops around it;
///  - every tile sees each of its digits repeats * invocations times;
///  - writes and MVMs equal the header's totals and the closed form.
/// Throws Error naming the instruction (its line in program.jsonl).
ProgramCounts verify_program(const Program& program, const Graph& graph);

}  // namespace cimq::compiler
