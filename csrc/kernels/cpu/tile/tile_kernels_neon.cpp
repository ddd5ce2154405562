// Tile kernels for every 64-bit ARM machine: widening products, then pairwise sums.
#if defined(__aarch64__)
#include "kernels/cpu/tile/neon_tile_kernel.h"
#include "kernels/cpu/tile/tile_kernels.h"

namespace cimq::kernels::cpu {
namespace {

struct Bytes {
  static int32x4_t add(int32x4_t sum, int8x16_t digits, int8x16_t cells) {
    const int16x8_t low = vmull_s8(vget_low_s8(digits), vget_low_s8(cells));
    const int16x8_t high = vmull_high_s8(digits, cells);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
  }
};

struct Words {
  static int32x4_t add(int32x4_t sum, int8x16_t digits, int8x16_t cells) {
    const int16x8_t digit = vreinterpretq_s16_s8(digits);
    const int16x8_t cell = vreinterpretq_s16_s8(cells);
    const int32x4_t low = vmull_s16(vget_low_s16(digit), vget_low_s16(cell));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(digit, cell)));
  }
};

}  // namespace

TileKernels neon_kernels() {
  const TileKernels scalar = scalar_kernels();
  return {.bytes = run_bytes<Bytes>,
          .words = run_all_rows<Words>,
          .bits = scalar.bits,
          .columns = scalar.columns,
          .tables = neon_sum_tables(),
          .sampler = neon_cell_sampler(),
          .noise = neon_column_noise()};
}

}  // namespace cimq::kernels::cpu
#endif
