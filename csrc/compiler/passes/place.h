// Decides which crossbar holds which tile.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the placement of the closed form: crossbars in turn, every tile written once per sample; with an unlimited
/// number every tile has its own.
Pass place_in_turn_pass();

/// Gives a placement in which tiles stay where they fit. Some crossbars are a pool through which the other tiles pass
/// in rounds; how many is chosen for the shortest time of a sample, layers in series, write after write. As many tiles
/// as there are crossbars left stay, those first whose rounds cost most.
Pass place_stationary_pass();

}  // namespace cimq::compiler
