// SHA-256 (FIPS 180-4). Written here because no package of the Python index carries it as a header.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cimq::runtime {

class Sha256 {
 public:
  void update(std::span<const std::uint8_t> bytes);
  /// The digest in lower-case hexadecimal. The object must not be used afterwards.
  std::string hex();

 private:
  void compress(const std::uint8_t* block);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> buffer_{};
  std::size_t buffered_ = 0;
  std::uint64_t length_ = 0;  // bytes
};

std::string sha256_hex(std::span<const std::uint8_t> bytes);

}  // namespace cimq::runtime
