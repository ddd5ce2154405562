// Sixteen blocks of Philox and sixteen interpolations per vector.
#if defined(__x86_64__)
#include <cstdint>

#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernels.h"
#include "kernels/noise/cell_noise.h"

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

  static Words set(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
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
  static Words top_bit(Words v) {
    // The exponent of the top bit alone; the bit below is cleared so that the conversion cannot round up.
    const Words alone = _mm512_andnot_si512(_mm512_srli_epi32(v, 1), v);
    return sub(_mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(alone)), 23), set(127));
  }
  static Words look_up(const std::int32_t* table, Words index) { return _mm512_i32gather_epi32(index, table, 4); }

  /// In a register, if it fits.
  class Table {
   public:
    Table(const std::int32_t* table, int count)
        : table_(table),
          fits_(count <= kCount),
          first_(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << (fits_ ? count : kCount)) - 1U), table)) {}
    Words operator()(Words level) const {
      return fits_ ? _mm512_permutexvar_epi32(level, first_) : look_up(table_, level);
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
  static constexpr __mmask16 kOdd = 0xAAAA;
};

}  // namespace
}  // namespace cimq::kernels::cpu

#include "kernels/cpu/program/cell_sampler_lanes.h"

namespace cimq::kernels::cpu {

CellSampler avx512_cell_sampler() { return sample_cells; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
