// The converter in 256 and 128-bit vectors, for sum_tables.h. Included inside a target region of AVX2 or more.
#pragma once

#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

struct CodeSums {
  /// sum + codes * weight: exact, however it is rounded.
  template <typename Floats>
  static Floats add(Floats sum, Floats codes, float weight) {
    return sum + codes * weight;
  }
};

/// Codes as whole float32 numbers, and sums of them as integers.
template <int kBytes>
struct CodeOps;

template <>
struct CodeOps<32> : CodeSums {
  template <bool kClips, typename Floats, typename Words>
  static Floats codes(Words current, Floats inv_lsb, const TileArgs& args) {
    __m256 value = _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(current));
    value = _mm256_mul_ps(value, reinterpret_cast<__m256>(inv_lsb));
    if constexpr (kClips) {
      value = _mm256_max_ps(value, _mm256_set1_ps(static_cast<float>(args.code_min)));
      value = _mm256_min_ps(value, _mm256_set1_ps(static_cast<float>(args.code_max)));
    }
    return reinterpret_cast<Floats>(_mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  template <typename Words, typename Floats>
  static Words to_words(Floats codes) {
    return reinterpret_cast<Words>(_mm256_cvtps_epi32(reinterpret_cast<__m256>(codes)));
  }
};

template <>
struct CodeOps<16> : CodeSums {
  template <bool kClips, typename Floats, typename Words>
  static Floats codes(Words current, Floats inv_lsb, const TileArgs& args) {
    __m128 value = _mm_cvtepi32_ps(reinterpret_cast<__m128i>(current));
    value = _mm_mul_ps(value, reinterpret_cast<__m128>(inv_lsb));
    if constexpr (kClips) {
      value = _mm_max_ps(value, _mm_set1_ps(static_cast<float>(args.code_min)));
      value = _mm_min_ps(value, _mm_set1_ps(static_cast<float>(args.code_max)));
    }
    return reinterpret_cast<Floats>(_mm_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  template <typename Words, typename Floats>
  static Words to_words(Floats codes) {
    return reinterpret_cast<Words>(_mm_cvtps_epi32(reinterpret_cast<__m128>(codes)));
  }
};

}  // namespace
}  // namespace cimq::kernels::cpu
