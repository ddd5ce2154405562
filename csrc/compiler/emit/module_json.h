// Module -> text, to look at what passes do (`cimq compile --dump-after PASS`).
#pragma once

#include <string>

#include "compiler/ir/module.h"

namespace cimq::compiler {

/// One JSON object per line: the nodes, then the parts that are there, layer by layer, then the lines of the program.
std::string write_module(const Module& module);

}  // namespace cimq::compiler
