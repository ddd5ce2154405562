// The implementations that dispatch.cpp chooses from.
#pragma once

#include "kernels/cpu/tile_kernel.h"

namespace cimq::kernels::cpu {

TileKernels scalar_kernels();

}  // namespace cimq::kernels::cpu
