// Sixteen blocks of Philox and sixteen interpolations per vector.
#include "kernels/cpu/tile/tile_kernels.h"

#if defined(__x86_64__)

#include <cstdint>

#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/noise/cell_noise.h"

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl")

namespace cimq::kernels::cpu {
namespace {

struct Product {
  __m512i high;
  __m512i low;
};

/// Both halves of the 64-bit products of 32-bit lanes.
Product multiply(__m512i a, __m512i factor) {
  constexpr __mmask16 kOdd = 0xAAAA;
  const __m512i even = _mm512_mul_epu32(a, factor);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
  return {_mm512_mask_blend_epi32(kOdd, _mm512_srli_epi64(even, 32), odd),
          _mm512_mask_blend_epi32(kOdd, even, _mm512_slli_epi64(odd, 32))};
}

/// philox4x32 of the blocks `block` .. `block` + 15, whose low halves do not overflow: words of blocks 4k .. 4k + 3.
void draw(const CellStream& stream, std::uint64_t block, __m512i words[4]) {
  // Lane 4L + k draws block 4k + L: the transposition below then puts blocks in order.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const std::uint32_t packed = static_cast<std::uint32_t>(block >> 32) |
                               (static_cast<std::uint32_t>(stream.slice) << 16) |
                               (static_cast<std::uint32_t>(CellPurpose::kProgramming) << 24);
  const PhiloxKey key = philox_key(stream.seed);
  __m512i c0 = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(static_cast<std::uint32_t>(block))), order);
  __m512i c1 = _mm512_set1_epi32(static_cast<int>(packed));
  __m512i c2 = _mm512_set1_epi32(static_cast<int>(stream.layer));
  __m512i c3 = _mm512_set1_epi32(static_cast<int>(stream.chip));
  __m512i key0 = _mm512_set1_epi32(static_cast<int>(key.word[0]));
  __m512i key1 = _mm512_set1_epi32(static_cast<int>(key.word[1]));
  const __m512i factor0 = _mm512_set1_epi32(static_cast<int>(kPhiloxMultiplier0));
  const __m512i factor1 = _mm512_set1_epi32(static_cast<int>(kPhiloxMultiplier1));
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const Product product0 = multiply(c0, factor0);
    const Product product1 = multiply(c2, factor1);
    c0 = _mm512_xor_si512(_mm512_xor_si512(product1.high, c1), key0);
    c1 = product1.low;
    c2 = _mm512_xor_si512(_mm512_xor_si512(product0.high, c3), key1);
    c3 = product0.low;
    key0 = _mm512_add_epi32(key0, _mm512_set1_epi32(static_cast<int>(kPhiloxWeyl0)));
    key1 = _mm512_add_epi32(key1, _mm512_set1_epi32(static_cast<int>(kPhiloxWeyl1)));
  }
  const __m512i low01 = _mm512_unpacklo_epi32(c0, c1);
  const __m512i high01 = _mm512_unpackhi_epi32(c0, c1);
  const __m512i low23 = _mm512_unpacklo_epi32(c2, c3);
  const __m512i high23 = _mm512_unpackhi_epi32(c2, c3);
  words[0] = _mm512_unpacklo_epi64(low01, low23);
  words[1] = _mm512_unpackhi_epi64(low01, low23);
  words[2] = _mm512_unpacklo_epi64(high01, high23);
  words[3] = _mm512_unpackhi_epi64(high01, high23);
}

/// quantile_sample of each lane, with the table that begins at `offset`.
__m512i sample(const std::int32_t* nodes, __m512i offset, __m512i word) {
  constexpr __mmask16 kOdd = 0xAAAA;
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i upper = _mm512_srai_epi32(word, 31);
  const __m512i v = _mm512_xor_si512(word, upper);
  // The exponent of the top bit alone; the bit below is cleared so that the conversion cannot round up.
  const __m512i some = _mm512_or_si512(v, one);
  const __m512i top_bit = _mm512_andnot_si512(_mm512_srli_epi32(some, 1), some);
  const __m512i exponent = _mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(top_bit)), 23);
  const __m512i shift =
      _mm512_max_epi32(_mm512_sub_epi32(exponent, _mm512_set1_epi32(127 + kQuantileSubBits)), _mm512_setzero_si512());
  __m512i index = _mm512_add_epi32(_mm512_slli_epi32(shift, kQuantileSubBits), _mm512_srlv_epi32(v, shift));
  index = _mm512_add_epi32(index, _mm512_and_si512(upper, _mm512_set1_epi32(kQuantileNodes)));
  index = _mm512_add_epi32(index, offset);
  const __m512i node = _mm512_i32gather_epi32(index, nodes, 4);
  const __m512i step = _mm512_sub_epi32(_mm512_i32gather_epi32(index, nodes + 1, 4), node);
  const __m512i fraction = _mm512_and_si512(v, _mm512_sub_epi32(_mm512_sllv_epi32(one, shift), one));
  // (step * fraction) >> shift in 64 bits; the result lies between 0 and step.
  const __m512i even =
      _mm512_srav_epi64(_mm512_mul_epi32(step, fraction), _mm512_and_si512(shift, _mm512_set1_epi64(0xffffffffLL)));
  const __m512i odd = _mm512_srav_epi64(_mm512_mul_epi32(_mm512_srli_epi64(step, 32), _mm512_srli_epi64(fraction, 32)),
                                        _mm512_srli_epi64(shift, 32));
  const __m512i part = _mm512_mask_blend_epi32(kOdd, even, _mm512_slli_epi64(odd, 32));
  const __m512i value =
      _mm512_add_epi32(_mm512_add_epi32(node, part), _mm512_set1_epi32(1 << (kQuantileFractionBits - 1)));
  return _mm512_srai_epi32(value, kQuantileFractionBits);
}

__m512i look_up(const std::int32_t* table, __m512i index) { return _mm512_i32gather_epi32(index, table, 4); }

/// Entries 0 .. 15 of a table, those that exist.
__m512i first_entries(const std::int32_t* table, int count) {
  return _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << (count < 16 ? count : 16)) - 1U), table);
}

void sample_cells(const CellStream& stream, std::uint64_t block, std::int64_t cells, const std::uint8_t* levels,
                  std::int16_t* values) {
  constexpr std::int64_t kBlocks = kSampledAtOnce / 4;
  const bool few = stream.levels <= 16;
  const __m512i offsets = first_entries(stream.offsets, stream.levels);
  const __m512i fixed = first_entries(stream.fixed, stream.levels);
  for (std::int64_t cell = 0; cell < cells; cell += kSampledAtOnce, block += kBlocks) {
    __m512i words[4];
    if (static_cast<std::uint32_t>(block) <= 0xffffffffU - kBlocks) {
      draw(stream, block, words);
    } else {
      for (std::uint64_t j = 0; j < kBlocks; ++j) {
        const PhiloxCounter four =
            cell_words(stream.seed, stream.chip, stream.layer, stream.slice, CellPurpose::kProgramming, block + j);
        __builtin_memcpy(reinterpret_cast<char*>(words) + j * sizeof four, &four, sizeof four);
      }
    }
    for (int j = 0; j < 4; ++j) {
      const std::int64_t at = cell + 16 * j;
      const __m512i level = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(levels + at)));
      const __m512i offset = few ? _mm512_permutexvar_epi32(level, offsets) : look_up(stream.offsets, level);
      const __m512i base = few ? _mm512_permutexvar_epi32(level, fixed) : look_up(stream.fixed, level);
      __m512i value = _mm512_add_epi32(base, sample(stream.nodes, offset, words[j]));
      value = _mm512_max_epi32(value, _mm512_setzero_si512());
      value = _mm512_min_epi32(value, _mm512_set1_epi32(kMaxConductance));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + at), _mm512_cvtepi32_epi16(value));
    }
  }
}

}  // namespace

CellSampler avx512_cell_sampler() { return sample_cells; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END

#endif
