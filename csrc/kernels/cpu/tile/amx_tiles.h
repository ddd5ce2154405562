// The tile registers of AMX: what amx_kernel.h needs of them, as instructions. Its tests have the same in software
// (tests/csrc/kernels/software_tiles.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace cimq::kernels::cpu {

constexpr int kTileRegisters = 8;
constexpr int kTileRows = 16;   ///< of a register, at most
constexpr int kTileBytes = 64;  ///< of a row, at most

/// The operand of LDTILECFG (Intel SDM volume 1, chapter 18: palette 1).
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::array<std::uint8_t, 14> reserved{};
  std::array<std::uint16_t, 16> row_bytes{};
  std::array<std::uint8_t, 16> rows{};
};
static_assert(sizeof(TileConfig) == 64);

/// Which operand of an int8 product is signed: the digits (a, by rows) and the cells (b, four rows to a lane).
enum class TileProduct { kUnsignedSigned, kUnsignedUnsigned, kSignedSigned, kSignedUnsigned };

#if defined(__x86_64__)
/// As assembly: intrinsics take register numbers as text, which templates cannot give. Nothing else uses the registers.
struct HardwareTiles {
  static void configure(const TileConfig& config) { asm volatile("ldtilecfg %0" : : "m"(config)); }
  static void release() { asm volatile("tilerelease"); }

  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  /// Row r of the register from first + r * stride on.
  template <int kTile>
  static void load(const std::byte* first, std::int64_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(first), "r"(stride) : "memory");
  }
  template <int kTile>
  static void store(std::int32_t* first, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(first), "r"(stride) : "memory");
  }
  /// c += a . b, modulo 2^32.
  template <TileProduct kProduct, int kC, int kA, int kB>
  static void multiply() {
    if constexpr (kProduct == TileProduct::kUnsignedSigned) {
      asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
    } else if constexpr (kProduct == TileProduct::kUnsignedUnsigned) {
      asm volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
    } else if constexpr (kProduct == TileProduct::kSignedSigned) {
      asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
    } else {
      asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
    }
  }
};
#endif

}  // namespace cimq::kernels::cpu
