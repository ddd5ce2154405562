// Cells and read noise: eight blocks of Philox and eight interpolations per vector.
#if defined(__x86_64__)
#include <cstdint>

#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernels.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/read_noise.h"

CIMQ_TARGET_REGION("avx2")

namespace cimq::kernels::cpu {
namespace {

struct Lanes {
  using Words = __m256i;
  static constexpr int kCount = 8;
  struct Product {
    Words high;
    Words low;
  };

  struct Neighbours {
    Words first;
    Words second;
  };

  static Words set(std::uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
  static Words load(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void keep(std::int32_t* p, Words value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), value); }
  static Words add(Words a, Words b) { return _mm256_add_epi32(a, b); }
  static Words sub(Words a, Words b) { return _mm256_sub_epi32(a, b); }
  static Words both(Words a, Words b) { return _mm256_and_si256(a, b); }
  static Words either(Words a, Words b) { return _mm256_or_si256(a, b); }
  static Words differ(Words a, Words b) { return _mm256_xor_si256(a, b); }
  static Words at_least(Words a, Words b) { return _mm256_max_epi32(a, b); }
  static Words at_most(Words a, Words b) { return _mm256_min_epi32(a, b); }
  static Words signs(Words a) { return _mm256_srai_epi32(a, 31); }
  static Words left(Words a, Words by) { return _mm256_sllv_epi32(a, by); }
  static Words right(Words a, Words by) { return _mm256_srlv_epi32(a, by); }
  template <int kBits>
  static Words rounded(Words a) {
    return _mm256_srai_epi32(_mm256_add_epi32(a, _mm256_set1_epi32(1 << (kBits - 1))), kBits);
  }
  static Product multiply(Words a, Words factor) {
    const Words even = _mm256_mul_epu32(a, factor);
    const Words odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
    return {_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, kOdd),
            _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), kOdd)};
  }
  static Words scaled(Words a, Words b, Words shift) {
    const Words low = _mm256_set1_epi64x(0xffffffffLL);
    // The lower halves are the same whatever is shifted in above them.
    const Words even = _mm256_srlv_epi64(_mm256_mul_epi32(a, b), _mm256_and_si256(shift, low));
    const Words odd = _mm256_srlv_epi64(_mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)),
                                        _mm256_srli_epi64(shift, 32));
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), kOdd);
  }
  static Words root(Words v) {
    return _mm256_set_m128i(root_of_half(_mm256_extracti128_si256(v, 1)), root_of_half(_mm256_castsi256_si128(v)));
  }
  static Words rounded_product(Words a, Words b, int shift) {
    // Above zero, so that a logical shift does.
    constexpr long long kAbove = 1LL << 62;
    const Words half = _mm256_set1_epi64x((1LL << (shift - 1)) + kAbove);
    const __m128i by = _mm_cvtsi32_si128(shift);
    const Words even = _mm256_srl_epi64(_mm256_add_epi64(_mm256_mul_epi32(a, b), half), by);
    const Words products = _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    const Words odd = _mm256_srl_epi64(_mm256_add_epi64(products, half), by);
    return sub(_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), kOdd),
               set(static_cast<std::uint32_t>(kAbove >> shift)));
  }
  static Words top_bit(Words v) {
    // The exponent of the top bit alone; the bit below is cleared so that the conversion cannot round up.
    const Words alone = _mm256_andnot_si256(_mm256_srli_epi32(v, 1), v);
    return sub(_mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(alone)), 23), set(127));
  }
  /// By loads of both at once: a gather takes time for each load.
  static Neighbours neighbours(const std::int32_t* table, Words index) {
    const auto* pairs = reinterpret_cast<const long long*>(table);
    const __m256 low = _mm256_castsi256_ps(_mm256_i32gather_epi64(pairs, _mm256_castsi256_si128(index), 4));
    const __m256 high = _mm256_castsi256_ps(_mm256_i32gather_epi64(pairs, _mm256_extracti128_si256(index, 1), 4));
    // Of lanes 0 1 4 5 2 3 6 7.
    const Words first = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88));
    const Words second = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0xDD));
    return {_mm256_permute4x64_epi64(first, 0xD8), _mm256_permute4x64_epi64(second, 0xD8)};
  }

  /// In a register, if it fits.
  class Table {
   public:
    Table(const std::int32_t* table, int count) : table_(table), fits_(count <= kCount) {
      const Words lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      first_ = _mm256_maskload_epi32(table, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
    }
    Words operator()(Words level) const {
      return fits_ ? _mm256_permutevar8x32_epi32(first_, level) : _mm256_i32gather_epi32(table_, level, 4);
    }

   private:
    const std::int32_t* table_;
    bool fits_;
    Words first_;
  };

  static Words order() { return _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7); }
  static void transpose(Words (&words)[4]) {
    const Words low01 = _mm256_unpacklo_epi32(words[0], words[1]);
    const Words high01 = _mm256_unpackhi_epi32(words[0], words[1]);
    const Words low23 = _mm256_unpacklo_epi32(words[2], words[3]);
    const Words high23 = _mm256_unpackhi_epi32(words[2], words[3]);
    words[0] = _mm256_unpacklo_epi64(low01, low23);
    words[1] = _mm256_unpackhi_epi64(low01, low23);
    words[2] = _mm256_unpacklo_epi64(high01, high23);
    words[3] = _mm256_unpackhi_epi64(high01, high23);
  }
  static Words levels(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(std::int16_t* p, Words value) {
    const __m128i low = _mm256_castsi256_si128(value);
    const __m128i high = _mm256_extracti128_si256(value, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(low, high));  // values fit
  }

 private:
  static __m128i root_of_half(__m128i v) {
    const __m256d square = _mm256_mul_pd(_mm256_cvtepi32_pd(v), _mm256_set1_pd(65536.0));
    return _mm256_cvttpd_epi32(_mm256_sqrt_pd(square));
  }

  static constexpr int kOdd = 0xAA;
};

}  // namespace
}  // namespace cimq::kernels::cpu

#include "kernels/cpu/random/cell_sampler_lanes.h"
#include "kernels/cpu/random/column_noise_lanes.h"

namespace cimq::kernels::cpu {

CellSampler avx2_cell_sampler() { return sample_cells; }
ColumnNoiseAdder avx2_column_noise() { return add_column_noise; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
