// The implementations that dispatch.cpp chooses from.
#pragma once

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {

TileKernels scalar_kernels();
#if defined(__x86_64__)
TileKernels avx2_kernels();
TileKernels avx512_kernels();
TileKernel avx512_bits_kernel();  ///< needs VPOPCNTDQ besides
SumTables avx2_sum_tables();
SumTables avx512_sum_tables();
CellSampler avx2_cell_sampler();
ColumnNoiseAdder avx2_column_noise();
ColumnNoiseAdder avx512_column_noise();
CellSampler avx512_cell_sampler();
MatrixKernels amx_kernels();  ///< needs AVX-512 VNNI besides
#elif defined(__aarch64__)
TileKernels neon_kernels();
TileKernel neon_dotprod_bytes_kernel();  ///< needs the dot-product extension
SumTables neon_sum_tables();
CellSampler neon_cell_sampler();
ColumnNoiseAdder neon_column_noise();
#endif

}  // namespace cimq::kernels::cpu
