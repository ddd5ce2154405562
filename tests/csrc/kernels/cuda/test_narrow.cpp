// Operands that the emulated device narrows to bytes, against what an integer in range is by definition.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "emulation/run.h"
#include "kernels/narrow.h"

namespace cimq::kernels::testing {
namespace {

using cuda::AllowedIntegers;

/// `value` as T holds it, and what the kernel sees of that: doubles as the float32 that they round to.
template <typename T>
T stored(double value) {
  if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) {
    return narrowed<T>(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <typename T>
double seen(T value) {
  if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) {
    return widened(value);
  } else if constexpr (std::is_same_v<T, double>) {
    return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<double>(value);
  }
}

constexpr std::uint8_t kUntouched = 0xA5;
constexpr int kFault = 4;

/// Values of T that are `allowed`, and in turn one that is not: every value alone, so that a fault has one cause.
template <typename T>
void check_type(const AllowedIntegers& allowed) {
  std::vector<double> values;
  for (double v = -300; v <= 300; v += 1) values.push_back(v);
  for (const double v : {1e4, -1e4, 1e9, -1e9, 1e18, -1e18}) values.push_back(v);
  if constexpr (!std::is_integral_v<T>) {
    for (const double whole : {-128.0, -7.0, -1.0, 0.0, 1.0, 7.0, 127.0, 255.0}) {
      for (const double off : {0.5, -0.5, 1.0 / 1024, -1.0 / 1024, 1.0 / 1023, -1.0 / 1023, 1e-6}) {
        values.push_back(whole + off);
      }
    }
    for (const double v : {0x1p22, 0x1p23 + 1, 1e30, -1e30, std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
      values.push_back(v);
    }
  }
  int good = 0;
  int bad = 0;
  for (const double value : values) {
    if constexpr (std::is_integral_v<T>) {
      if (value < static_cast<double>(std::numeric_limits<T>::min()) ||
          value > static_cast<double>(std::numeric_limits<T>::max())) {
        continue;
      }
    }
    const T x = stored<T>(value);
    const double got = seen(x);
    const double nearest = std::nearbyint(got);
    const bool fine = std::abs(got - nearest) <= 1.0 / 1024.0 && nearest >= static_cast<double>(allowed.range.lo) &&
                      nearest <= static_cast<double>(allowed.range.hi) && (allowed.zero || nearest != 0.0);
    std::uint8_t byte = kUntouched;
    int faults = 1;
    cuda::narrow(&x, 1, allowed, &byte, kFault, &faults, {});
    INFO("value " << got);
    REQUIRE(faults == (fine ? 1 : 1 | kFault));
    if (fine) REQUIRE(byte == static_cast<std::uint8_t>(static_cast<int>(nearest)));
    cuda::narrow(&x, 1, allowed, nullptr, kFault, &faults, {});
    REQUIRE(faults == (fine ? 1 : 1 | kFault));
    ++(fine ? good : bad);
  }
  CHECK(good > 0);
  if (sizeof(T) > 1) CHECK(bad > 0);
}

/// Runs of every length and alignment: all bytes, nothing beside them, and a wrong value is found wherever it is.
template <typename T>
void check_runs() {
  constexpr std::size_t kGuard = 16;
  const AllowedIntegers allowed{{-7, 7}, true};
  for (const std::size_t count : {0, 1, 3, 15, 16, 17, 64, 300, 1029}) {
    for (std::size_t skew = 0; skew < 3; ++skew) {
      std::vector<T> x(count + 8 + skew);
      std::vector<std::uint8_t> bytes(count + 2 * kGuard + skew, kUntouched);
      for (std::size_t i = 0; i < count; ++i) {
        x[i + skew] = stored<T>(std::is_unsigned_v<T> ? static_cast<double>(i % 8) : static_cast<double>(i % 15) - 7.0);
      }
      const auto run = [&](bool write) {
        int faults = 0;
        cuda::narrow(x.data() + skew, static_cast<std::int64_t>(count), allowed,
                     write ? bytes.data() + kGuard + skew : nullptr, kFault, &faults, {});
        return faults;
      };
      REQUIRE(run(true) == 0);
      REQUIRE(run(false) == 0);
      std::vector<std::uint8_t> expected(bytes.size(), kUntouched);
      for (std::size_t i = 0; i < count; ++i) {
        expected[kGuard + skew + i] = static_cast<std::uint8_t>(static_cast<int>(seen(x[i + skew])));
      }
      REQUIRE(bytes == expected);
      for (const std::size_t at : {std::size_t{0}, count / 2, count - 1}) {
        if (count == 0) break;
        const T before = x[at + skew];
        x[at + skew] = stored<T>(8);
        REQUIRE(run(true) == kFault);
        REQUIRE(run(false) == kFault);
        x[at + skew] = before;
      }
    }
  }
}

template <typename T>
void check_all() {
  check_type<T>({{0, 255}, true});
  check_type<T>({{0, 15}, true});
  check_type<T>({{-128, 127}, true});
  check_type<T>({{-7, 7}, true});
  check_type<T>({{-1, 1}, false});
  check_runs<T>();
}

TEST_CASE("the emulated device narrows integers of every type, and finds what is none", "[cuda][narrow]") {
  check_all<std::uint8_t>();
  check_all<std::int8_t>();
  check_all<std::int16_t>();
  check_all<std::int32_t>();
  check_all<std::int64_t>();
  check_all<float>();
  check_all<BFloat16>();
  check_all<Float16>();
}

TEST_CASE("doubles are narrowed as the float32 that they round to", "[cuda][narrow]") {
  check_all<double>();
  // Off by a little more than the tolerance in double, by exactly as much in float32.
  const double x = 1.0 + 1.0 / 1024.0 + 1e-12;
  std::uint8_t byte = 0;
  int faults = 0;
  cuda::narrow(&x, 1, {{0, 3}, true}, &byte, 1, &faults, {});
  CHECK(faults == 0);
  CHECK(byte == 1);
}

}  // namespace
}  // namespace cimq::kernels::testing
