// The tile kernels of the instruction sets that this machine can run.
#pragma once

#include <vector>

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {

/// In the order of available_isas(): best first, "scalar" last.
const std::vector<TileKernels>& available_kernels();

/// Those of isa_in_use().
const TileKernels& active_kernels();

}  // namespace cimq::kernels::cpu
