// Tables of partial sums (sum_tables.h) in 512-bit vectors, 256 and 128-bit ones for narrow panels.
#if defined(__x86_64__)
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernels.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl")

#include "kernels/cpu/tile/code_ops_x86.h"

namespace cimq::kernels::cpu {
namespace {

constexpr int kRowsAtOnce = 8;

template <>
struct CodeOps<64> {
  /// sum + codes * weight: exact, however it is rounded.
  template <typename Floats>
  static Floats add(Floats sum, Floats codes, float weight) {
    return reinterpret_cast<Floats>(
        _mm512_fmadd_ps(reinterpret_cast<__m512>(codes), _mm512_set1_ps(weight), reinterpret_cast<__m512>(sum)));
  }
  template <bool kClips, typename Floats, typename Words>
  static Floats codes(Words current, Floats inv_lsb, const TileArgs& args) {
    __m512 value = _mm512_cvtepi32_ps(reinterpret_cast<__m512i>(current));
    value = _mm512_mul_ps(value, reinterpret_cast<__m512>(inv_lsb));
    if constexpr (kClips) {
      value = _mm512_max_ps(value, _mm512_set1_ps(static_cast<float>(args.code_min)));
      value = _mm512_min_ps(value, _mm512_set1_ps(static_cast<float>(args.code_max)));
    }
    return reinterpret_cast<Floats>(_mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  template <typename Words, typename Floats>
  static Words to_words(Floats codes) {
    return reinterpret_cast<Words>(_mm512_cvtps_epi32(reinterpret_cast<__m512>(codes)));
  }
};

}  // namespace
}  // namespace cimq::kernels::cpu

#include "kernels/cpu/tile/sum_tables.h"

namespace cimq::kernels::cpu {

SumTables avx512_sum_tables() { return {run_strips<std::uint8_t, 64>, run_strips<std::uint16_t, 64>}; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
