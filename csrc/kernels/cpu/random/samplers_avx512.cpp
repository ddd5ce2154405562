// Cells and read noise: sixteen blocks of Philox and sixteen interpolations per vector.
#if defined(__x86_64__)
#include <cstdint>

#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernels.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/read_noise.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl")

namespace cimq::kernels::cpu {
namespace {

struct Lanes {
  using Words = __m512i;
  static constexpr int kCount = 16;
  struct Product {
    Words high;
    Words low;
  };

  struct Neighbours {
    Words first;
    Words second;
  };

  static Words set(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
  static Words load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
  static void keep(std::int32_t* p, Words value) { _mm512_storeu_si512(p, value); }
  static Words add(Words a, Words b) { return _mm512_add_epi32(a, b); }
  static Words sub(Words a, Words b) { return _mm512_sub_epi32(a, b); }
  static Words both(Words a, Words b) { return _mm512_and_si512(a, b); }
  static Words either(Words a, Words b) { return _mm512_or_si512(a, b); }
  static Words differ(Words a, Words b) { return _mm512_xor_si512(a, b); }
  static Words at_least(Words a, Words b) { return _mm512_max_epi32(a, b); }
  static Words at_most(Words a, Words b) { return _mm512_min_epi32(a, b); }
  static Words signs(Words a) { return _mm512_srai_epi32(a, 31); }
  static Words left(Words a, Words by) { return _mm512_sllv_epi32(a, by); }
  static Words right(Words a, Words by) { return _mm512_srlv_epi32(a, by); }
  template <int kBits>
  static Words rounded(Words a) {
    return _mm512_srai_epi32(_mm512_add_epi32(a, _mm512_set1_epi32(1 << (kBits - 1))), kBits);
  }
  static Product multiply(Words a, Words factor) {
    const Words even = _mm512_mul_epu32(a, factor);
    const Words odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
    return {_mm512_mask_blend_epi32(kOdd, _mm512_srli_epi64(even, 32), odd),
            _mm512_mask_blend_epi32(kOdd, even, _mm512_slli_epi64(odd, 32))};
  }
  static Words scaled(Words a, Words b, Words shift) {
    const Words low = _mm512_set1_epi64(0xffffffffLL);
    // The lower halves are the same whatever is shifted in above them.
    const Words even = _mm512_srlv_epi64(_mm512_mul_epi32(a, b), _mm512_and_si512(shift, low));
    const Words odd = _mm512_srlv_epi64(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)),
                                        _mm512_srli_epi64(shift, 32));
    return _mm512_mask_blend_epi32(kOdd, even, _mm512_slli_epi64(odd, 32));
  }
  static Words root(Words v) {
    const __m512i low = _mm512_castsi256_si512(root_of_half(_mm512_castsi512_si256(v)));
    return _mm512_inserti64x4(low, root_of_half(_mm512_extracti64x4_epi64(v, 1)), 1);
  }
  static Words rounded_product(Words a, Words b, int shift) {
    const Words half = _mm512_set1_epi64(1LL << (shift - 1));
    const __m128i by = _mm_cvtsi32_si128(shift);
    const Words even = _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(a, b), half), by);
    const Words products = _mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    const Words odd = _mm512_sra_epi64(_mm512_add_epi64(products, half), by);
    return _mm512_mask_blend_epi32(kOdd, even, _mm512_slli_epi64(odd, 32));
  }
  static Words top_bit(Words v) {
    // The exponent of the top bit alone; the bit below is cleared so that the conversion cannot round up.
    const Words alone = _mm512_andnot_si512(_mm512_srli_epi32(v, 1), v);
    return sub(_mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(alone)), 23), set(127));
  }
  /// By loads of both at once: a gather takes time for each load.
  static Neighbours neighbours(const std::int32_t* table, Words index) {
    const Words low = _mm512_i32gather_epi64(_mm512_castsi512_si256(index), table, 4);
    const Words high = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(index, 1), table, 4);
    const Words even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const Words odd = add(even, set(1));
    return {_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high)};
  }

  /// In a register, if it fits.
  class Table {
   public:
    Table(const std::int32_t* table, int count)
        : table_(table),
          fits_(count <= kCount),
          first_(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << (fits_ ? count : kCount)) - 1U), table)) {}
    Words operator()(Words level) const {
      return fits_ ? _mm512_permutexvar_epi32(level, first_) : _mm512_i32gather_epi32(level, table_, 4);
    }

   private:
    const std::int32_t* table_;
    bool fits_;
    Words first_;
  };

  static Words order() { return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); }
  static void transpose(Words (&words)[4]) {
    const Words low01 = _mm512_unpacklo_epi32(words[0], words[1]);
    const Words high01 = _mm512_unpackhi_epi32(words[0], words[1]);
    const Words low23 = _mm512_unpacklo_epi32(words[2], words[3]);
    const Words high23 = _mm512_unpackhi_epi32(words[2], words[3]);
    words[0] = _mm512_unpacklo_epi64(low01, low23);
    words[1] = _mm512_unpackhi_epi64(low01, low23);
    words[2] = _mm512_unpacklo_epi64(high01, high23);
    words[3] = _mm512_unpackhi_epi64(high01, high23);
  }
  static Words levels(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(std::int16_t* p, Words value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(value));
  }

 private:
  static __m256i root_of_half(__m256i v) {
    const __m512d square = _mm512_mul_pd(_mm512_cvtepi32_pd(v), _mm512_set1_pd(65536.0));
    return _mm512_cvttpd_epi32(_mm512_sqrt_pd(square));
  }

  static constexpr __mmask16 kOdd = 0xAAAA;
};

}  // namespace
}  // namespace cimq::kernels::cpu

#include "kernels/cpu/random/cell_sampler_lanes.h"
#include "kernels/cpu/random/column_noise_lanes.h"

namespace cimq::kernels::cpu {

CellSampler avx512_cell_sampler() { return sample_cells; }
ColumnNoiseAdder avx512_column_noise() { return add_column_noise; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
