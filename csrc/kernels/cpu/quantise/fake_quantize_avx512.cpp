#include "kernels/cpu/quantise/fake_quantize_avx512.h"

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/formula/fake_quantize.h"

namespace cimq::kernels::cpu {

#if defined(__x86_64__)

namespace {

constexpr std::int64_t kLanes = 16;

}  // namespace

CIMQ_TARGET_REGION("avx512f")

namespace {

struct Grid {
  __m512 scale;
  __m512 lo;
  __m512 hi;
  __m512 shift;

  Grid(float step, float lowest, float highest)
      : scale(_mm512_set1_ps(step)),
        lo(_mm512_set1_ps(lowest)),
        hi(_mm512_set1_ps(highest)),
        shift(_mm512_set1_ps(kRoundingShift<float>)) {}

  /// As `clamped` of the formulas: NaN stays. min and max give their second operand for NaN.
  __m512 clamp(__m512 u) const { return _mm512_min_ps(hi, _mm512_max_ps(lo, u)); }
  __m512 round(__m512 c) const { return _mm512_sub_ps(_mm512_add_ps(c, shift), shift); }
};

}  // namespace

std::int64_t fake_quantize_avx512(const float* x, std::int64_t count, float scale, float lo, float hi, float* y) {
  const Grid grid(scale, lo, hi);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m512 u = _mm512_div_ps(_mm512_loadu_ps(x + i), grid.scale);
    _mm512_storeu_ps(y + i, _mm512_mul_ps(grid.round(grid.clamp(u)), grid.scale));
  }
  return i;
}

std::int64_t quantize_avx512(const float* x, std::int64_t count, float scale, float lo, float hi, std::uint8_t* q,
                             int shift, bool& finite) {
  const Grid grid(scale, lo, hi);
  const __m512i shifts = _mm512_set1_epi32(shift);
  // x - x is 0 for finite values and NaN otherwise: the sum of such differences shows whether all were finite.
  __m512 differences = _mm512_setzero_ps();
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m512 value = _mm512_loadu_ps(x + i);
    differences = _mm512_add_ps(differences, _mm512_sub_ps(value, value));
    // The conversion rounds half to even, as `round` does.
    const __m512i level = _mm512_cvtps_epi32(grid.clamp(_mm512_div_ps(value, grid.scale)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), _mm512_cvtepi32_epi8(_mm512_add_epi32(level, shifts)));
  }
  finite = finite && _mm512_cmp_ps_mask(differences, _mm512_setzero_ps(), _CMP_NEQ_UQ) == 0;
  return i;
}

std::int64_t fake_quantize_backward_avx512(const float* grad, const float* x, std::int64_t count, float scale, float lo,
                                           float hi, float* dx, float* levels, double& total) {
  const Grid grid(scale, lo, hi);
  const __m512 one = _mm512_set1_ps(1.0F);
  __m512 sum = _mm512_setzero_ps();
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m512 u = _mm512_div_ps(_mm512_loadu_ps(x + i), grid.scale);
    const __m512 c = grid.clamp(u);
    const __m512 inside = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(u, c, _CMP_EQ_OQ), one);
    const __m512 level = grid.round(c);
    const __m512 g = _mm512_loadu_ps(grad + i);
    _mm512_storeu_ps(dx + i, _mm512_mul_ps(g, inside));
    if (levels != nullptr) _mm512_storeu_ps(levels + i, level);
    sum = _mm512_add_ps(sum, _mm512_mul_ps(g, _mm512_sub_ps(level, _mm512_mul_ps(inside, u))));
  }
  const __m256 low = _mm512_castps512_ps256(sum);
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1));
  total += _mm512_reduce_add_pd(_mm512_add_pd(_mm512_cvtps_pd(low), _mm512_cvtps_pd(high)));
  return i;
}

CIMQ_TARGET_REGION_END

#else

std::int64_t fake_quantize_avx512(const float*, std::int64_t, float, float, float, float*) { return 0; }

std::int64_t quantize_avx512(const float*, std::int64_t, float, float, float, std::uint8_t*, int, bool&) { return 0; }

std::int64_t fake_quantize_backward_avx512(const float*, const float*, std::int64_t, float, float, float, float*,
                                           float*, double&) {
  return 0;
}

#endif

}  // namespace cimq::kernels::cpu
