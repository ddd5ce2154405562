// Tables of partial sums (sum_tables.h) in 128-bit NEON vectors.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>

#include "kernels/cpu/tile/tile_kernels.h"

namespace cimq::kernels::cpu {
namespace {

constexpr int kRowsAtOnce = 8;

/// Codes as whole float32 numbers, and sums of them as integers.
template <int kBytes>
struct CodeOps;

template <>
struct CodeOps<16> {
  /// sum + codes * weight: exact, however it is rounded.
  template <typename Floats>
  static Floats add(Floats sum, Floats codes, float weight) {
    return sum + codes * weight;
  }
  template <bool kClips, typename Floats, typename Words>
  static Floats codes(Words current, Floats inv_lsb, const TileArgs& args) {
    float32x4_t value =
        vmulq_f32(vcvtq_f32_s32(reinterpret_cast<int32x4_t>(current)), reinterpret_cast<float32x4_t>(inv_lsb));
    if constexpr (kClips) {
      value = vmaxq_f32(value, vdupq_n_f32(static_cast<float>(args.code_min)));
      value = vminq_f32(value, vdupq_n_f32(static_cast<float>(args.code_max)));
    }
    return reinterpret_cast<Floats>(vrndnq_f32(value));
  }
  template <typename Words, typename Floats>
  static Words to_words(Floats codes) {
    return reinterpret_cast<Words>(vcvtnq_s32_f32(reinterpret_cast<float32x4_t>(codes)));
  }
};

}  // namespace
}  // namespace cimq::kernels::cpu

#include "kernels/cpu/tile/sum_tables.h"

namespace cimq::kernels::cpu {

SumTables neon_sum_tables() { return {run_strips<std::uint8_t, 16>, run_strips<std::uint16_t, 16>}; }

}  // namespace cimq::kernels::cpu
#endif
