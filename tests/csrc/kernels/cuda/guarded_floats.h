// Values for the emulated kernels that begin anywhere, between values that must stay as they are.
#pragma once

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cimq::kernels::testing {

/// The same bits; NaN is NaN.
inline bool same_float(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// `count` floats, `offset` values behind a multiple of 16 bytes.
class GuardedFloats {
 public:
  explicit GuardedFloats(std::int64_t count, std::size_t offset = 0) : count_(static_cast<std::size_t>(count)) {
    all_.resize(2 * kGuard + 4 + offset + count_, kUntouched);
    const auto over = reinterpret_cast<std::uintptr_t>(all_.data()) % 16 / sizeof(float);
    first_ = kGuard + (4 - over) % 4 + offset;
  }

  float* data() { return all_.data() + first_; }
  const float* data() const { return all_.data() + first_; }
  std::size_t size() const { return count_; }
  float& operator[](std::size_t i) { return data()[i]; }

  /// Values around zero without a pattern, some of them equal.
  void fill(double step = 0.013, std::size_t seed = 0) {
    for (std::size_t i = 0; i < count_; ++i) {
      const auto place = static_cast<std::int64_t>((i + seed * 31) * 7919 % 1009) - 504;
      data()[i] = static_cast<float>(static_cast<double>(place) * step);
    }
  }

  void check_guards() const {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      if ((i < first_ || i >= first_ + count_) && all_[i] != kUntouched) FAIL("a value outside was written");
    }
  }

  void check_equals(const std::vector<float>& wanted) const {
    check_guards();
    REQUIRE(wanted.size() == count_);
    for (std::size_t i = 0; i < count_; ++i) {
      if (!same_float(data()[i], wanted[i])) FAIL("value " << i << ": " << data()[i] << " and not " << wanted[i]);
    }
  }

 private:
  static constexpr std::size_t kGuard = 16;
  static constexpr float kUntouched = -77.25F;
  std::size_t count_;
  std::size_t first_;
  std::vector<float> all_;
};

}  // namespace cimq::kernels::testing
