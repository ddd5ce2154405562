// Cells and read noise: four blocks of Philox and four interpolations per vector, on every 64-bit ARM machine.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>

#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/cpu/tile/tile_kernels.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels::cpu {
namespace {

struct Lanes {
  using Words = int32x4_t;
  static constexpr int kCount = 4;
  struct Product {
    Words high;
    Words low;
  };

  struct Neighbours {
    Words first;
    Words second;
  };

  static Words set(std::uint32_t value) { return vdupq_n_s32(static_cast<std::int32_t>(value)); }
  static Words load(const std::int32_t* p) { return vld1q_s32(p); }
  static void keep(std::int32_t* p, Words value) { vst1q_s32(p, value); }
  static Words add(Words a, Words b) { return vaddq_s32(a, b); }
  static Words sub(Words a, Words b) { return vsubq_s32(a, b); }
  static Words both(Words a, Words b) { return vandq_s32(a, b); }
  static Words either(Words a, Words b) { return vorrq_s32(a, b); }
  static Words differ(Words a, Words b) { return veorq_s32(a, b); }
  static Words at_least(Words a, Words b) { return vmaxq_s32(a, b); }
  static Words at_most(Words a, Words b) { return vminq_s32(a, b); }
  static Words signs(Words a) { return vshrq_n_s32(a, 31); }
  static Words left(Words a, Words by) { return vshlq_s32(a, by); }
  static Words right(Words a, Words by) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vnegq_s32(by)));
  }
  template <int kBits>
  static Words rounded(Words a) {
    return vrshrq_n_s32(a, kBits);
  }
  static Product multiply(Words a, Words factor) {
    const uint32x4_t x = vreinterpretq_u32_s32(a);
    const uint32x4_t y = vreinterpretq_u32_s32(factor);
    const Words first = vreinterpretq_s32_u64(vmull_u32(vget_low_u32(x), vget_low_u32(y)));
    const Words second = vreinterpretq_s32_u64(vmull_high_u32(x, y));
    return {vuzp2q_s32(first, second), vuzp1q_s32(first, second)};
  }
  static Words scaled(Words a, Words b, Words shift) {
    const int32x4_t right = vnegq_s32(shift);
    const int64x2_t first = vshlq_s64(vmull_s32(vget_low_s32(a), vget_low_s32(b)), vmovl_s32(vget_low_s32(right)));
    const int64x2_t second = vshlq_s64(vmull_high_s32(a, b), vmovl_high_s32(right));
    return vuzp1q_s32(vreinterpretq_s32_s64(first), vreinterpretq_s32_s64(second));
  }
  static Words root(Words v) {
    return vuzp1q_s32(root_of_half(vmovl_s32(vget_low_s32(v))), root_of_half(vmovl_high_s32(v)));
  }
  static Words rounded_product(Words a, Words b, int shift) {
    const int64x2_t half = vdupq_n_s64(std::int64_t{1} << (shift - 1));
    const int64x2_t right = vdupq_n_s64(-shift);
    const int64x2_t first = vshlq_s64(vaddq_s64(vmull_s32(vget_low_s32(a), vget_low_s32(b)), half), right);
    const int64x2_t second = vshlq_s64(vaddq_s64(vmull_high_s32(a, b), half), right);
    return vuzp1q_s32(vreinterpretq_s32_s64(first), vreinterpretq_s32_s64(second));
  }
  static Words top_bit(Words v) { return vsubq_s32(vdupq_n_s32(31), vclzq_s32(v)); }
  static Neighbours neighbours(const std::int32_t* table, Words index) {
    const int32x4_t low =
        vcombine_s32(vld1_s32(table + vgetq_lane_s32(index, 0)), vld1_s32(table + vgetq_lane_s32(index, 1)));
    const int32x4_t high =
        vcombine_s32(vld1_s32(table + vgetq_lane_s32(index, 2)), vld1_s32(table + vgetq_lane_s32(index, 3)));
    return {vuzp1q_s32(low, high), vuzp2q_s32(low, high)};
  }

  class Table {
   public:
    Table(const std::int32_t* table, int /*count*/) : table_(table) {}
    Words operator()(Words level) const {
      Words found = vdupq_n_s32(table_[vgetq_lane_s32(level, 0)]);
      found = vsetq_lane_s32(table_[vgetq_lane_s32(level, 1)], found, 1);
      found = vsetq_lane_s32(table_[vgetq_lane_s32(level, 2)], found, 2);
      return vsetq_lane_s32(table_[vgetq_lane_s32(level, 3)], found, 3);
    }

   private:
    const std::int32_t* table_;
  };

  static Words order() {
    constexpr std::int32_t kOrder[4] = {0, 1, 2, 3};
    return vld1q_s32(kOrder);
  }
  static void transpose(Words (&words)[4]) {
    const int64x2_t low01 = vreinterpretq_s64_s32(vzip1q_s32(words[0], words[1]));
    const int64x2_t high01 = vreinterpretq_s64_s32(vzip2q_s32(words[0], words[1]));
    const int64x2_t low23 = vreinterpretq_s64_s32(vzip1q_s32(words[2], words[3]));
    const int64x2_t high23 = vreinterpretq_s64_s32(vzip2q_s32(words[2], words[3]));
    words[0] = vreinterpretq_s32_s64(vzip1q_s64(low01, low23));
    words[1] = vreinterpretq_s32_s64(vzip2q_s64(low01, low23));
    words[2] = vreinterpretq_s32_s64(vzip1q_s64(high01, high23));
    words[3] = vreinterpretq_s32_s64(vzip2q_s64(high01, high23));
  }
  static Words levels(const std::uint8_t* p) {
    std::uint32_t bytes;
    __builtin_memcpy(&bytes, p, sizeof(bytes));
    const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
  }
  static void store(std::int16_t* p, Words value) { vst1_s16(p, vmovn_s32(value)); }

 private:
  static int32x4_t root_of_half(int64x2_t v) {
    const float64x2_t square = vmulq_f64(vcvtq_f64_s64(v), vdupq_n_f64(65536.0));
    return vreinterpretq_s32_s64(vcvtq_s64_f64(vsqrtq_f64(square)));
  }
};

}  // namespace
}  // namespace cimq::kernels::cpu

#include "kernels/cpu/random/cell_sampler_lanes.h"
#include "kernels/cpu/random/column_noise_lanes.h"

namespace cimq::kernels::cpu {

CellSampler neon_cell_sampler() { return sample_cells; }
ColumnNoiseAdder neon_column_noise() { return add_column_noise; }

}  // namespace cimq::kernels::cpu
#endif
