// The tile kernels of the instruction sets that this machine can run.
#pragma once

#include <vector>

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {

/// In the order of available_isas(): best first, "scalar" last.
const std::vector<TileKernels>& available_kernels();

/// Those of isa_in_use().
const TileKernels& active_kernels();

/// For tests: `kernels`, which this machine need not have instructions for, in place of those of isa_in_use(). Null: no
/// longer. Not synchronised with running kernels.
void force_kernels(const TileKernels* kernels);

}  // namespace cimq::kernels::cpu
