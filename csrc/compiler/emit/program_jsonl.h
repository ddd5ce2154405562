// Program -> program.jsonl.
#pragma once

#include <string>

#include "compiler/isa/program.h"

namespace cimq::compiler {

/// One JSON object per line; the first line is the header with the version of the instruction set, the hardware and the
/// totals.
std::string write_program(const Program& program);

}  // namespace cimq::compiler
