#include "kernels/cpu/quantise/float16_blocks.h"

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"

namespace cimq::kernels::cpu {
namespace {

template <typename T>
[[gnu::always_inline]] inline void widen_some(const T* source, std::int64_t count, float* target) {
  for (std::int64_t i = 0; i < count; ++i) target[i] = widened(source[i]);
}

template <typename T>
[[gnu::always_inline]] inline void narrow_some(const float* source, std::int64_t count, T* target) {
  for (std::int64_t i = 0; i < count; ++i) target[i] = narrowed<T>(source[i]);
}

template <typename T>
void widen(const T* source, std::int64_t count, float* target) {
  widen_some(source, count, target);
}

template <typename T>
void narrow(const float* source, std::int64_t count, T* target) {
  narrow_some(source, count, target);
}

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx2,f16c")

void widen_avx2(const BFloat16* source, std::int64_t count, float* target) { widen_some(source, count, target); }

void narrow_avx2(const float* source, std::int64_t count, BFloat16* target) { narrow_some(source, count, target); }

void widen_avx2(const Float16* source, std::int64_t count, float* target) {
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(target + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i))));
  }
  widen_some(source + i, count - i, target + i);
}

void narrow_avx2(const float* source, std::int64_t count, Float16* target) {
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(source + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + i), bits);
  }
  narrow_some(source + i, count - i, target + i);
}

CIMQ_TARGET_REGION_END

CIMQ_TARGET_REGION("avx512f")

constexpr std::int64_t kLanes = 16;

void widen_avx512(const BFloat16* source, std::int64_t count, float* target) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i));
    _mm512_storeu_si512(target + i, _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  widen_some(source + i, count - i, target + i);
}

/// As narrowed<BFloat16>.
void narrow_avx512(const float* source, std::int64_t count, BFloat16* target) {
  const __m512i half = _mm512_set1_epi32(0x7fff);
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i quiet = _mm512_set1_epi32(0x7fc0);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m512 value = _mm512_loadu_ps(source + i);
    const __m512i all = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(all, 16), one);
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(all, _mm512_add_epi32(half, odd)), 16);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i bits = _mm512_mask_mov_epi32(rounded, is_nan, quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + i), _mm512_cvtepi32_epi16(bits));
  }
  narrow_some(source + i, count - i, target + i);
}

void widen_avx512(const Float16* source, std::int64_t count, float* target) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i));
    _mm512_storeu_ps(target + i, _mm512_cvtph_ps(bits));
  }
  widen_some(source + i, count - i, target + i);
}

void narrow_avx512(const float* source, std::int64_t count, Float16* target) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256i bits = _mm512_cvtps_ph(_mm512_loadu_ps(source + i), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + i), bits);
  }
  narrow_some(source + i, count - i, target + i);
}

CIMQ_TARGET_REGION_END
#endif

}  // namespace

template <typename T>
Float16Blocks<T> float16_blocks([[maybe_unused]] const Processor& used) {
#if defined(__x86_64__)
  if (used.avx512) return {widen_avx512, narrow_avx512};
  if (used.avx2 && used.f16c) return {widen_avx2, narrow_avx2};
#endif
  return {widen<T>, narrow<T>};
}

template Float16Blocks<BFloat16> float16_blocks<BFloat16>(const Processor&);
template Float16Blocks<Float16> float16_blocks<Float16>(const Processor&);

}  // namespace cimq::kernels::cpu
