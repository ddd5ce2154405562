// Tile kernel for ARM machines with the dot-product extension: sdot adds four int8 rows of four outputs.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/tile/tile_kernels.h"

#if defined(__clang__)
CIMQ_TARGET_REGION("dotprod")
#else
CIMQ_TARGET_REGION("arch=armv8.2-a+dotprod")
#endif

#include "kernels/cpu/tile/neon_tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

struct Bytes {
  static int32x4_t add(int32x4_t sum, int8x16_t digits, int8x16_t cells) { return vdotq_s32(sum, cells, digits); }
};

}  // namespace

TileKernel neon_dotprod_bytes_kernel() { return run_bytes<Bytes>; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
