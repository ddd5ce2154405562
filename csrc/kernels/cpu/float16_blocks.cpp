#include "kernels/cpu/float16_blocks.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "kernels/cpu/target_region.h"

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
bool has_avx2_and_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  // Not every compiler's __builtin_cpu_supports knows f16c.
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx2") != 0;
}

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
#endif

}  // namespace

template <typename T>
const std::vector<Float16Blocks<T>>& available_float16_blocks() {
  static const std::vector<Float16Blocks<T>> kBlocks = [] {
    std::vector<Float16Blocks<T>> found;
#if defined(__x86_64__)
    if (has_avx2_and_f16c()) found.push_back({"avx2", widen_avx2, narrow_avx2});
#endif
    found.push_back({"baseline", widen<T>, narrow<T>});
    return found;
  }();
  return kBlocks;
}

template const std::vector<Float16Blocks<BFloat16>>& available_float16_blocks<BFloat16>();
template const std::vector<Float16Blocks<Float16>>& available_float16_blocks<Float16>();

}  // namespace cimq::kernels::cpu
