#include "kernels/activation_codes.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms in gcc 12's own AVX-512 header (GCC bug 105593)
#endif
#include <immintrin.h>
#endif

#include "kernels/cpu/float16_blocks.h"
#include "kernels/cpu/target_region.h"
#include "kernels/fake_quantize_formula.h"

namespace cimq::kernels {
namespace {

/// Pixels that are worked on at a time: a tile of as many channels stays in the first cache.
constexpr std::int64_t kTile = 64;
/// Of the blocks that are transposed at once.
constexpr std::int64_t kSide = 16;

struct Grid {
  float scale;
  float lo;
  float hi;
  std::int32_t shift;
};

bool codes_plain(const float* x, std::int64_t count, const Grid& grid, std::uint8_t* codes) {
  bool finite = true;
  for (std::int64_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(x[i]);
    const float level = quantized<false, float>(x[i], grid.scale, grid.lo, grid.hi);
    // An integer of NaN is undefined.
    codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(level == level ? level : grid.lo) + grid.shift);
  }
  return finite;
}

/// A tile [rows][stride] to [columns][target_stride].
template <typename T>
void transpose_some(const T* source, std::int64_t stride, std::int64_t rows, std::int64_t columns, T* target,
                    std::int64_t target_stride) {
  for (std::int64_t row = 0; row < rows; row += kSide) {
    const std::int64_t some = std::min(kSide, rows - row);
    for (std::int64_t column = 0; column < columns; ++column) {
      T* out = target + column * target_stride + row;
      const T* in = source + row * stride + column;
      if (some == kSide) {
        for (std::int64_t i = 0; i < kSide; ++i) out[i] = in[i * stride];
      } else {
        for (std::int64_t i = 0; i < some; ++i) out[i] = in[i * stride];
      }
    }
  }
}

/// kSide rows of kSide bytes. Four rounds of interleaving each row with the one eight further transpose them.
void transpose_block(const std::uint8_t* source, std::int64_t stride, std::uint8_t* target,
                     std::int64_t target_stride) {
#if defined(__x86_64__)
  __m128i rows[kSide];
  __m128i mixed[kSide];
  for (std::int64_t i = 0; i < kSide; ++i) {
    rows[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i * stride));
  }
  for (int round = 0; round < 4; ++round) {
    for (std::int64_t i = 0; i < kSide / 2; ++i) {
      mixed[2 * i] = _mm_unpacklo_epi8(rows[i], rows[i + kSide / 2]);
      mixed[2 * i + 1] = _mm_unpackhi_epi8(rows[i], rows[i + kSide / 2]);
    }
    std::copy(mixed, mixed + kSide, rows);
  }
  for (std::int64_t i = 0; i < kSide; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + i * target_stride), rows[i]);
  }
#else
  transpose_some(source, stride, kSide, kSide, target, target_stride);
#endif
}

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx512f")

bool codes_avx512(const float* x, std::int64_t count, const Grid& grid, std::uint8_t* codes) {
  constexpr std::int64_t kLanes = 16;
  const __m512 scales = _mm512_set1_ps(grid.scale);
  const __m512 los = _mm512_set1_ps(grid.lo);
  const __m512 his = _mm512_set1_ps(grid.hi);
  const __m512i shifts = _mm512_set1_epi32(grid.shift);
  // x - x is 0 for finite values and NaN otherwise: the sum of such differences shows whether all were finite.
  __m512 differences = _mm512_setzero_ps();
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m512 value = _mm512_loadu_ps(x + i);
    differences = _mm512_add_ps(differences, _mm512_sub_ps(value, value));
    // max gives its second operand for NaN, and the conversion rounds half to even.
    const __m512 level = _mm512_min_ps(_mm512_max_ps(_mm512_div_ps(value, scales), los), his);
    const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(level), shifts);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm512_cvtepi32_epi8(code));
  }
  const bool finite = _mm512_cmp_ps_mask(differences, _mm512_setzero_ps(), _CMP_NEQ_UQ) == 0;
  return codes_plain(x + i, count - i, grid, codes + i) && finite;
}

CIMQ_TARGET_REGION_END
#endif

using CodesKernel = bool (*)(const float*, std::int64_t, const Grid&, std::uint8_t*);

CodesKernel codes_kernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") != 0) return codes_avx512;
#endif
  return codes_plain;
}

Grid grid_of(float scale, const QuantRange& range, int shift) {
  return {scale, static_cast<float>(range.lo), static_cast<float>(range.hi), shift};
}

template <typename T>
bool codes_of_run(CodesKernel kernel, const T* x, std::int64_t count, const Grid& grid, std::uint8_t* codes) {
  if constexpr (std::is_same_v<T, float>) {
    return kernel(x, count, grid, codes);
  } else {
    constexpr std::int64_t kBlock = 2048;
    const auto& blocks = cpu::available_float16_blocks<T>().front();
    float values[kBlock];
    bool finite = true;
    for (std::int64_t begin = 0; begin < count; begin += kBlock) {
      const std::int64_t some = std::min(kBlock, count - begin);
      blocks.widen(x + begin, some, values);
      finite = kernel(values, some, grid, codes + begin) && finite;
    }
    return finite;
  }
}

}  // namespace

template <typename T>
bool activation_codes(const T* x, std::int64_t count, float scale, const QuantRange& range, int shift,
                      std::uint8_t* codes) {
  return codes_of_run(codes_kernel(), x, count, grid_of(scale, range, shift), codes);
}

template <typename T>
bool activation_codes_channels_last(const T* x, const PixelRun& run, float scale, const QuantRange& range, int shift,
                                    std::uint8_t* codes) {
  const Grid grid = grid_of(scale, range, shift);
  const CodesKernel kernel = codes_kernel();
  std::vector<std::uint8_t> tile(static_cast<std::size_t>(run.channels * kTile));
  bool finite = true;
  for (std::int64_t pixel = run.begin; pixel < run.end; pixel += kTile) {
    const std::int64_t some = std::min(kTile, run.end - pixel);
    for (std::int64_t c = 0; c < run.channels; ++c) {
      finite = codes_of_run(kernel, x + c * run.pixels + pixel, some, grid, tile.data() + c * kTile) && finite;
    }
    std::uint8_t* target = codes + pixel * run.channels;
    const bool whole = run.channels % kSide == 0 && some % kSide == 0;
    if (!whole) transpose_some(tile.data(), kTile, run.channels, some, target, run.channels);
    for (std::int64_t c = 0; whole && c < run.channels; c += kSide) {
      for (std::int64_t i = 0; i < some; i += kSide) {
        transpose_block(tile.data() + c * kTile + i, kTile, target + i * run.channels + c, run.channels);
      }
    }
  }
  return finite;
}

template <typename T>
void channels_last(const T* values, const PixelRun& run, T* target) {
  for (std::int64_t pixel = run.begin; pixel < run.end; pixel += kTile) {
    const std::int64_t some = std::min(kTile, run.end - pixel);
    transpose_some(values + pixel, run.pixels, run.channels, some, target + pixel * run.channels, run.channels);
  }
}

template <typename T>
void channels_first(const T* values, const PixelRun& run, T* target) {
  for (std::int64_t pixel = run.begin; pixel < run.end; pixel += kTile) {
    const std::int64_t some = std::min(kTile, run.end - pixel);
    transpose_some(values + pixel * run.channels, run.channels, some, run.channels, target + pixel, run.pixels);
  }
}

template bool activation_codes<float>(const float*, std::int64_t, float, const QuantRange&, int, std::uint8_t*);
template bool activation_codes<BFloat16>(const BFloat16*, std::int64_t, float, const QuantRange&, int, std::uint8_t*);
template bool activation_codes<Float16>(const Float16*, std::int64_t, float, const QuantRange&, int, std::uint8_t*);
template bool activation_codes_channels_last<float>(const float*, const PixelRun&, float, const QuantRange&, int,
                                                    std::uint8_t*);
template bool activation_codes_channels_last<BFloat16>(const BFloat16*, const PixelRun&, float, const QuantRange&, int,
                                                       std::uint8_t*);
template bool activation_codes_channels_last<Float16>(const Float16*, const PixelRun&, float, const QuantRange&, int,
                                                      std::uint8_t*);
template void channels_last<float>(const float*, const PixelRun&, float*);
template void channels_last<BFloat16>(const BFloat16*, const PixelRun&, BFloat16*);
template void channels_first<float>(const float*, const PixelRun&, float*);
template void channels_first<BFloat16>(const BFloat16*, const PixelRun&, BFloat16*);

}  // namespace cimq::kernels
