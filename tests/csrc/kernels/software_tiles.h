// The tile registers of AMX in software: the kernels are compiled with these in place of the instructions
// (kernels/cpu/tile/amx_tiles.h), so that all of their logic runs on machines without AMX. What the processor answers
// with a fault, these answer with std::logic_error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/cpu/tile/amx_tiles.h"

namespace cimq::kernels::testing {

class SoftwareTiles {
 public:
  SoftwareTiles() = default;
  SoftwareTiles(const SoftwareTiles&) = delete;
  SoftwareTiles& operator=(const SoftwareTiles&) = delete;

  /// Clears all registers, as LDTILECFG does.
  void configure(const cpu::TileConfig& config) {
    demand(config.palette == 1, "palette 1");
    demand(config.start_row == 0, "start row 0");
    for (const std::uint8_t byte : config.reserved) demand(byte == 0, "reserved bytes of zero");
    for (std::size_t j = 0; j < config.rows.size(); ++j) {
      demand(config.rows[j] <= cpu::kTileRows, "16 rows at most");
      demand(config.row_bytes[j] <= cpu::kTileBytes, "64 bytes to a row at most");
      demand((config.rows[j] == 0) == (config.row_bytes[j] == 0), "rows and bytes, or neither");
      demand(j < cpu::kTileRegisters || config.rows[j] == 0, "8 registers");
    }
    config_ = config;
    data_ = {};
    in_use_ = true;
  }
  void release() {
    demand(in_use_, "a configuration");
    in_use_ = false;
  }
  bool in_use() const { return in_use_; }

  template <int kTile>
  void zero() {
    rows_of(kTile);
    data_[kTile] = {};
  }
  template <int kTile>
  void load(const std::byte* first, std::int64_t stride) {
    const int rows = rows_of(kTile);
    data_[kTile] = {};
    for (int r = 0; r < rows; ++r) {
      std::memcpy(data_[kTile][static_cast<std::size_t>(r)].data(), first + r * stride, bytes_of(kTile));
    }
  }
  template <int kTile>
  void store(std::int32_t* first, std::int64_t stride) const {
    const int rows = rows_of(kTile);
    for (int r = 0; r < rows; ++r) {
      std::memcpy(reinterpret_cast<std::byte*>(first) + r * stride, data_[kTile][static_cast<std::size_t>(r)].data(),
                  bytes_of(kTile));
    }
  }
  template <cpu::TileProduct kProduct, int kC, int kA, int kB>
  void multiply() {
    using cpu::TileProduct;
    static_assert(kC != kA && kC != kB && kA != kB, "three registers");
    constexpr bool kSignedA = kProduct == TileProduct::kSignedSigned || kProduct == TileProduct::kSignedUnsigned;
    constexpr bool kSignedB = kProduct == TileProduct::kSignedSigned || kProduct == TileProduct::kUnsignedSigned;
    demand(rows_of(kA) == rows_of(kC), "as many rows in a as in c");
    demand(bytes_of(kB) == bytes_of(kC), "as many columns in b as in c");
    demand(bytes_of(kA) == 4U * static_cast<std::size_t>(rows_of(kB)), "four columns of a to a row of b");
    for (std::size_t m = 0; m < static_cast<std::size_t>(rows_of(kC)); ++m) {
      for (std::size_t k = 0; k < bytes_of(kA); ++k) {
        const std::int32_t a = value<kSignedA>(data_[kA][m][k]);
        if (a == 0) continue;
        for (std::size_t n = 0; n < bytes_of(kC) / 4; ++n) {
          std::uint32_t sum;
          std::memcpy(&sum, &data_[kC][m][4 * n], sizeof(sum));
          sum += static_cast<std::uint32_t>(a * value<kSignedB>(data_[kB][k / 4][4 * n + k % 4]));
          std::memcpy(&data_[kC][m][4 * n], &sum, sizeof(sum));
        }
      }
    }
  }

 private:
  using Register = std::array<std::array<std::uint8_t, cpu::kTileBytes>, cpu::kTileRows>;

  static void demand(bool holds, const char* what) {
    if (!holds) throw std::logic_error(std::string("tiles: the processor demands ") + what);
  }
  template <bool kSigned>
  static std::int32_t value(std::uint8_t byte) {
    return kSigned ? std::int32_t{static_cast<std::int8_t>(byte)} : std::int32_t{byte};
  }
  /// Of a register that is used now.
  int rows_of(std::size_t tile) const {
    demand(in_use_ && config_.rows[tile] > 0, "that a register is configured");
    return config_.rows[tile];
  }
  std::size_t bytes_of(std::size_t tile) const { return config_.row_bytes[tile]; }

  bool in_use_ = false;
  cpu::TileConfig config_{};
  std::array<Register, cpu::kTileRegisters> data_{};
};

}  // namespace cimq::kernels::testing
