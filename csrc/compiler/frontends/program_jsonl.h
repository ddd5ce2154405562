// program.jsonl -> Program. Checks the form of every line; what the lines mean together is for verify/program.h.
#pragma once

#include <string_view>

#include "compiler/isa/program.h"

namespace cimq::compiler {

/// Throws Error naming the line.
Program read_program(std::string_view text);

}  // namespace cimq::compiler
