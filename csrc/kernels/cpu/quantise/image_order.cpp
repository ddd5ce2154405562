#include "kernels/image_order.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"

namespace cimq::kernels::cpu {
namespace {

/// Pixels that are worked on at a time: a tile of as many channels stays in the first cache.
constexpr std::int64_t kTile = 64;
/// Of the blocks that are transposed at once.
constexpr std::int64_t kSide = 16;

/// A tile [rows][stride] to [columns][target_stride].
template <typename T>
void transpose_some(const T* source, std::int64_t stride, std::int64_t rows, std::int64_t columns, T* target,
                    std::int64_t target_stride) {
  for (std::int64_t column = 0; column < columns; ++column) {
    for (std::int64_t row = 0; row < rows; ++row) target[column * target_stride + row] = source[row * stride + column];
  }
}

/// kSide rows of kSide values, in registers: rows that lie a power of two apart evict each other from the first cache,
/// so that every line had better be read once. Four rounds of interleaving each row with the one eight further
/// transpose them.
template <typename T>
using BlockKernel = void (*)(const T* source, std::int64_t stride, T* target, std::int64_t target_stride);

#if defined(__x86_64__)
constexpr int kRounds = 4;

void transpose_bytes(const std::uint8_t* source, std::int64_t stride, std::uint8_t* target,
                     std::int64_t target_stride) {
  __m128i rows[kSide];
  __m128i mixed[kSide];
  for (std::int64_t i = 0; i < kSide; ++i) {
    rows[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i * stride));
  }
  for (int round = 0; round < kRounds; ++round) {
    for (std::int64_t i = 0; i < kSide / 2; ++i) {
      mixed[2 * i] = _mm_unpacklo_epi8(rows[i], rows[i + kSide / 2]);
      mixed[2 * i + 1] = _mm_unpackhi_epi8(rows[i], rows[i + kSide / 2]);
    }
    std::copy(mixed, mixed + kSide, rows);
  }
  for (std::int64_t i = 0; i < kSide; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + i * target_stride), rows[i]);
  }
}

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl")

void transpose_floats(const float* source, std::int64_t stride, float* target, std::int64_t target_stride) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  __m512 rows[kSide];
  __m512 mixed[kSide];
  for (std::int64_t i = 0; i < kSide; ++i) rows[i] = _mm512_loadu_ps(source + i * stride);
  for (int round = 0; round < kRounds; ++round) {
    for (std::int64_t i = 0; i < kSide / 2; ++i) {
      mixed[2 * i] = _mm512_permutex2var_ps(rows[i], low, rows[i + kSide / 2]);
      mixed[2 * i + 1] = _mm512_permutex2var_ps(rows[i], high, rows[i + kSide / 2]);
    }
    for (std::int64_t i = 0; i < kSide; ++i) rows[i] = mixed[i];
  }
  for (std::int64_t i = 0; i < kSide; ++i) _mm512_storeu_ps(target + i * target_stride, rows[i]);
}

void transpose_halves(const BFloat16* source, std::int64_t stride, BFloat16* target, std::int64_t target_stride) {
  const __m256i low = _mm256_setr_epi16(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m256i high = _mm256_add_epi16(low, _mm256_set1_epi16(8));
  __m256i rows[kSide];
  __m256i mixed[kSide];
  for (std::int64_t i = 0; i < kSide; ++i) {
    rows[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i * stride));
  }
  for (int round = 0; round < kRounds; ++round) {
    for (std::int64_t i = 0; i < kSide / 2; ++i) {
      mixed[2 * i] = _mm256_permutex2var_epi16(rows[i], low, rows[i + kSide / 2]);
      mixed[2 * i + 1] = _mm256_permutex2var_epi16(rows[i], high, rows[i + kSide / 2]);
    }
    for (std::int64_t i = 0; i < kSide; ++i) rows[i] = mixed[i];
  }
  for (std::int64_t i = 0; i < kSide; ++i) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + i * target_stride), rows[i]);
  }
}

CIMQ_TARGET_REGION_END
#endif

/// Null where there is none.
template <typename T>
BlockKernel<T> block_kernel() {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<T, std::uint8_t>) return transpose_bytes;
  if constexpr (std::is_same_v<T, float>) return in_use().avx512 ? transpose_floats : nullptr;
  if constexpr (std::is_same_v<T, BFloat16>) return in_use().avx512 ? transpose_halves : nullptr;
#endif
  return nullptr;
}

template <typename T>
void transpose(const T* source, std::int64_t stride, std::int64_t rows, std::int64_t columns, T* target,
               std::int64_t target_stride) {
  const BlockKernel<T> block = block_kernel<T>();
  const std::int64_t whole_rows = block == nullptr ? 0 : rows / kSide * kSide;
  const std::int64_t whole_columns = block == nullptr ? 0 : columns / kSide * kSide;
  for (std::int64_t row = 0; row < whole_rows; row += kSide) {
    for (std::int64_t column = 0; column < whole_columns; column += kSide) {
      block(source + row * stride + column, stride, target + column * target_stride + row, target_stride);
    }
  }
  transpose_some(source + whole_columns, stride, whole_rows, columns - whole_columns,
                 target + whole_columns * target_stride, target_stride);
  transpose_some(source + whole_rows * stride, stride, rows - whole_rows, columns, target + whole_rows, target_stride);
}

}  // namespace

template <typename T>
bool quantize_channels_last(const T* x, const PixelRun& run, float scale, const QuantRange& range, int shift,
                            std::uint8_t* q) {
  const auto tile = std::make_unique_for_overwrite<std::uint8_t[]>(static_cast<std::size_t>(run.channels * kTile));
  bool finite = true;
  for (std::int64_t pixel = run.begin; pixel < run.end; pixel += kTile) {
    const std::int64_t some = std::min(kTile, run.end - pixel);
    for (std::int64_t c = 0; c < run.channels; ++c) {
      finite = quantize(x + c * run.pixels + pixel, some, scale, range, tile.get() + c * kTile, shift) && finite;
    }
    transpose(tile.get(), kTile, run.channels, some, q + pixel * run.channels, run.channels);
  }
  return finite;
}

template <typename T>
double fake_quantize_backward_channels_last(const T* grad, const T* x, const PixelRun& run, float scale,
                                            const QuantRange& range, T* dx, T* levels) {
  // Longer rows than elsewhere, as every call adds up its sum; not of a power of two, see BlockKernel.
  constexpr std::int64_t kPixels = 256;
  const std::int64_t row = std::min(kPixels, run.end - run.begin) + kSide;
  const auto size = static_cast<std::size_t>(run.channels * row);
  const auto gradients = std::make_unique_for_overwrite<T[]>(size);
  const auto integers = std::make_unique_for_overwrite<T[]>(size);
  double total = 0.0;
  for (std::int64_t pixel = run.begin; pixel < run.end; pixel += kPixels) {
    const std::int64_t some = std::min(kPixels, run.end - pixel);
    transpose(grad + pixel * run.channels, run.channels, some, run.channels, gradients.get(), row);
    for (std::int64_t c = 0; c < run.channels; ++c) {
      const std::int64_t at = c * run.pixels + pixel;
      T* level = integers.get() + c * row;
      total += fake_quantize_backward(gradients.get() + c * row, x + at, some, scale, range, dx + at, level);
    }
    transpose(integers.get(), row, run.channels, some, levels + pixel * run.channels, run.channels);
  }
  return total;
}

template <typename T>
void channels_last(const T* values, const PixelRun& run, T* target) {
  for (std::int64_t pixel = run.begin; pixel < run.end; pixel += kTile) {
    const std::int64_t some = std::min(kTile, run.end - pixel);
    transpose(values + pixel, run.pixels, run.channels, some, target + pixel * run.channels, run.channels);
  }
}

template <typename T>
void channels_first(const T* values, const PixelRun& run, T* target) {
  for (std::int64_t pixel = run.begin; pixel < run.end; pixel += kTile) {
    const std::int64_t some = std::min(kTile, run.end - pixel);
    transpose(values + pixel * run.channels, run.channels, some, run.channels, target + pixel, run.pixels);
  }
}

template bool quantize_channels_last<float>(const float*, const PixelRun&, float, const QuantRange&, int,
                                            std::uint8_t*);
template bool quantize_channels_last<BFloat16>(const BFloat16*, const PixelRun&, float, const QuantRange&, int,
                                               std::uint8_t*);
template double fake_quantize_backward_channels_last<float>(const float*, const float*, const PixelRun&, float,
                                                            const QuantRange&, float*, float*);
template double fake_quantize_backward_channels_last<BFloat16>(const BFloat16*, const BFloat16*, const PixelRun&, float,
                                                               const QuantRange&, BFloat16*, BFloat16*);
template void channels_last<float>(const float*, const PixelRun&, float*);
template void channels_last<BFloat16>(const BFloat16*, const PixelRun&, BFloat16*);
template void channels_first<float>(const float*, const PixelRun&, float*);
template void channels_first<BFloat16>(const BFloat16*, const PixelRun&, BFloat16*);

}  // namespace cimq::kernels::cpu
