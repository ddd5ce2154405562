#include "int8_peak.h"

#include <array>
#include <cstdint>

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/amx_tiles.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace cimq::benchmarks {
namespace {

constexpr std::int64_t kPeakRounds = 200000;
volatile std::int32_t sink = 0;

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vnni")
/// Returns the multiply-adds done. The loop itself is assembly, so that nothing but the instruction is measured: twelve
/// independent sums, more than its latency needs.
double peak_avx512() {
  std::int64_t rounds = kPeakRounds;
  const __m512i digits = _mm512_set1_epi8(1);
  const __m512i cells = _mm512_set1_epi8(3);
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
  asm volatile(
      "1:\n"
      "vpdpbusd %13, %14, %0\n vpdpbusd %13, %14, %1\n vpdpbusd %13, %14, %2\n vpdpbusd %13, %14, %3\n"
      "vpdpbusd %13, %14, %4\n vpdpbusd %13, %14, %5\n vpdpbusd %13, %14, %6\n vpdpbusd %13, %14, %7\n"
      "vpdpbusd %13, %14, %8\n vpdpbusd %13, %14, %9\n vpdpbusd %13, %14, %10\n vpdpbusd %13, %14, %11\n"
      "dec %12\n jnz 1b\n"
      : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l),
        "+r"(rounds)
      : "v"(cells), "v"(digits));
  return static_cast<double>(kPeakRounds) * 12 * 64;
}
CIMQ_TARGET_REGION_END

/// 2 x 2 products of full tiles: four independent sums, more than their latency needs.
double peak_amx() {
  using Tiles = kernels::cpu::HardwareTiles;
  constexpr auto kProduct = kernels::cpu::TileProduct::kUnsignedSigned;
  kernels::cpu::TileConfig config;
  for (std::size_t tile = 0; tile < kernels::cpu::kTileRegisters; ++tile) {
    config.rows[tile] = kernels::cpu::kTileRows;
    config.row_bytes[tile] = kernels::cpu::kTileBytes;
  }
  Tiles::configure(config);  // all registers are zero then
  constexpr std::int64_t kRounds = kPeakRounds / 16;
  for (std::int64_t round = 0; round < kRounds; ++round) {
    Tiles::multiply<kProduct, 0, 4, 6>();
    Tiles::multiply<kProduct, 1, 4, 7>();
    Tiles::multiply<kProduct, 2, 5, 6>();
    Tiles::multiply<kProduct, 3, 5, 7>();
  }
  Tiles::release();
  return static_cast<double>(kRounds) * 4 * 16 * 16 * 64;
}

CIMQ_TARGET_REGION("avx2")
double peak_avx2() {
  __m256i sums[8];
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  const __m256i digits = _mm256_set1_epi8(1);
  const __m256i cells = _mm256_set1_epi8(3);
  for (std::int64_t round = 0; round < kPeakRounds; ++round) {
#pragma GCC unroll 8
    for (auto& sum : sums) {
      __m256i product;
      asm volatile("vpmaddubsw %2, %1, %0" : "=x"(product) : "x"(digits), "x"(cells));
      sum = _mm256_add_epi16(sum, product);
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_add_epi16(sums[0], sums[j]);
  sink = _mm256_extract_epi16(sums[0], 0);
  return static_cast<double>(kPeakRounds) * 8 * 32;
}
CIMQ_TARGET_REGION_END
#elif defined(__aarch64__)
double peak_neon() {
  int16x8_t sums[8];
  for (auto& sum : sums) sum = vdupq_n_s16(0);
  const int8x16_t digits = vdupq_n_s8(1);
  const int8x16_t cells = vdupq_n_s8(0);
  for (std::int64_t round = 0; round < kPeakRounds; ++round) {
#pragma GCC unroll 8
    for (auto& sum : sums) {
      asm volatile("smlal %0.8h, %1.8b, %2.8b" : "+w"(sum) : "w"(digits), "w"(cells));
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = vaddq_s16(sums[0], sums[j]);
  sink = vgetq_lane_s16(sums[0], 0);
  return static_cast<double>(kPeakRounds) * 8 * 8;  // a widening multiply-add takes half a register
}

double peak_neon_dotprod() {
  int32x4_t sums[8];
  for (auto& sum : sums) sum = vdupq_n_s32(0);
  const int8x16_t digits = vdupq_n_s8(1);
  const int8x16_t cells = vdupq_n_s8(3);
  for (std::int64_t round = 0; round < kPeakRounds; ++round) {
#pragma GCC unroll 8
    for (auto& sum : sums) {
      asm volatile(".arch armv8.2-a+dotprod\n sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(digits), "w"(cells));
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = vaddq_s32(sums[0], sums[j]);
  sink = vgetq_lane_s32(sums[0], 0);
  return static_cast<double>(kPeakRounds) * 8 * 16;
}
#endif

double peak_scalar() {
  std::array<std::uint8_t, 1024> digits;
  std::array<std::int8_t, 1024> cells;
  digits.fill(1);
  cells.fill(3);
  std::int32_t sum = 0;
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    asm volatile("" : : "r"(digits.data()), "r"(cells.data()) : "memory");
    for (std::size_t j = 0; j < digits.size(); ++j) sum += std::int32_t{digits[j]} * cells[j];
  }
  sink = sum;
  return double{kRounds} * 1024;
}

}  // namespace

double int8_peak_products(std::string_view isa) {
#if defined(__x86_64__)
  if (isa == "amx") return peak_amx();
  if (isa == "avx512") return peak_avx512();
  if (isa == "avx2") return peak_avx2();
#elif defined(__aarch64__)
  if (isa == "neon_dotprod") return peak_neon_dotprod();
  if (isa == "neon") return peak_neon();
#endif
  return peak_scalar();
}

}  // namespace cimq::benchmarks

/// For Python, which compiles this file alone (benchmarks/_common.py).
extern "C" __attribute__((visibility("default"))) double cimq_int8_peak_products(const char* isa) {
  return cimq::benchmarks::int8_peak_products(isa);
}
