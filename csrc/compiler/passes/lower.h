// Spells a placed network out as a program.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the program of the closed form: layers in order, weights written tile by tile, counted loops over input
/// vectors and groups.
Pass lower_in_turn_pass();

}  // namespace cimq::compiler
