// Copies of layers: several sets of a layer's tiles share its input vectors.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the copies of every layer: those that the context names, or chosen by its rule for the machine's crossbars
/// (plan/stationary.h). Throws Error naming layer and bound for a layer that is not there, and for more copies than
/// there are input vectors or crossbars for them.
Pass duplicate_pass();

}  // namespace cimq::compiler
