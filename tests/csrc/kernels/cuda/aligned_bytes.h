// A copy of operands that lies as it would in the memory of a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cuda/crossbar_mvm.h"

namespace cimq::kernels::testing {

/// Bytes at a multiple of 16, or `skew` beyond one.
class AlignedBytes {
 public:
  AlignedBytes(const void* from, std::size_t count, std::size_t skew = 0) : bytes_(count + 32) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    first_ = (16 - address % 16) % 16 + skew;
    if (count != 0) std::memcpy(data(), from, count);
  }
  std::byte* data() { return bytes_.data() + first_; }

 private:
  std::vector<std::byte> bytes_;
  std::size_t first_ = 0;
};

/// A layer that was programmed on the host.
class CopiedLayer {
 public:
  /// `first_chip`: number of its first chip.
  explicit CopiedLayer(const cuda::MvmLayer& layer, std::uint32_t first_chip = 0)
      : programmed_(layer.programmed().data(), layer.programmed().size()),
        constants_(layer.constants().data(), layer.constants().size()),
        chips_(layer.chips()),
        first_chip_(first_chip) {}
  cuda::DeviceImage image() { return {programmed_.data(), constants_.data(), chips_, first_chip_}; }

 private:
  AlignedBytes programmed_;
  AlignedBytes constants_;
  int chips_;
  std::uint32_t first_chip_;
};

inline cuda::Accesses accesses_of(const MvmOptions& options, std::uint64_t first = 0) {
  return {options.seed, options.layer, options.first_output, first};
}

}  // namespace cimq::kernels::testing
