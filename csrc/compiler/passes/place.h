// Decides which crossbar holds which tile.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the placement of the closed form: crossbars in turn, every tile written once per sample; with an unlimited
/// number every tile has its own.
Pass place_in_turn_pass();

}  // namespace cimq::compiler
