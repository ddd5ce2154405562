// The implementations that dispatch.cpp chooses from.
#pragma once

#include "kernels/cpu/tile_kernel.h"

namespace cimq::kernels::cpu {

TileKernels scalar_kernels();
#if defined(__x86_64__)
TileKernels avx2_kernels();
TileKernels avx512_kernels();
TileKernel avx512_bits_kernel();  ///< needs VPOPCNTDQ besides
#endif

}  // namespace cimq::kernels::cpu
