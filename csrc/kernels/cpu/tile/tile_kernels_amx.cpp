// Matrix kernels for AMX int8: one instruction multiplies sixteen digit rows by sixteen outputs over 64 inputs.
#if defined(__x86_64__)
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/amx_tiles.h"
#include "kernels/cpu/tile/tile_kernels.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vnni")

#include "kernels/cpu/tile/amx_kernel.h"

namespace cimq::kernels::cpu {

MatrixKernels amx_kernels() { return matrix_kernels<HardwareTiles>(); }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
