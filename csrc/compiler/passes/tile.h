// Cuts the matrices of layers into tiles that fit one crossbar each.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the tiles. Throws Error for a network with more than kMaxTiles.
Pass tile_pass();

}  // namespace cimq::compiler
