// The CUDA kernels of fake quantisation, emulated, against those of the CPU: the same bits.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "emulation/run.h"
#include "kernels/fake_quantize.h"

namespace cimq::kernels {
namespace {

template <typename T>
T stored(double value) {
  if constexpr (std::is_same_v<T, Computed<T>>) {
    return static_cast<T>(value);
  } else {
    return narrowed<T>(static_cast<float>(value));
  }
}

template <typename T>
bool same_bits(T a, T b) {
  if constexpr (std::is_same_v<T, Computed<T>>) {
    if (std::isnan(a) && std::isnan(b)) return true;
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    return std::bit_cast<Bits>(a) == std::bit_cast<Bits>(b);
  } else {
    return a.bits == b.bits || (std::isnan(widened(a)) && std::isnan(widened(b)));
  }
}

/// `count` values around the ranges of small quantisers, with ties, both zeros, infinities and NaN among them, that
/// begin `offset` values behind an aligned address. What lies before and behind must stay as it is.
template <typename T>
struct Buffer {
  static constexpr std::size_t kGuard = 16;

  Buffer(std::int64_t values, std::size_t offset) : count(static_cast<std::size_t>(values)), first(kGuard + offset) {
    all.resize(first + count + kGuard, stored<T>(-77.0));
  }
  T* data() { return all.data() + first; }
  T& operator[](std::size_t i) { return all[first + i]; }

  void check_guards() const {
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i >= first && i < first + count) continue;
      REQUIRE(same_bits<T>(all[i], stored<T>(-77.0)));
    }
  }

  std::size_t count;
  std::size_t first;
  std::vector<T> all;
};

template <typename T>
void fill(Buffer<T>& x, double step) {
  for (std::size_t i = 0; i < x.count; ++i) {
    x[i] = stored<T>(static_cast<double>(static_cast<std::int64_t>(i * 7919 % 1009) - 504) * step);
  }
  const double special[] = {0.185,
                            0.555,
                            -0.0,
                            0.0,
                            1e30,
                            -1e30,
                            std::numeric_limits<double>::infinity(),
                            -std::numeric_limits<double>::infinity(),
                            std::numeric_limits<double>::quiet_NaN()};
  for (std::size_t i = 0; i < std::size(special) && 2 * i + 1 < x.count; ++i) x[2 * i + 1] = stored<T>(special[i]);
}

const ScaledValues kShapes[] = {{1, 1, 0},    {1, 1, 1},    {1, 1, 3},    {1, 1, 4},  {1, 1, 17},
                                {1, 1, 1030}, {1, 1, 2048}, {3, 3, 1},    {6, 3, 5},  {4, 2, 16},
                                {64, 64, 27}, {1, 1, 5003}, {2, 2, 1500}, {5, 5, 257}};

const QuantRange kRanges[] = {{-7, 7, false}, {0, 15, false}, {-128, 127, false}, {-1, 1, true}};

template <typename T>
std::vector<Computed<T>> scales_of(const ScaledValues& shape) {
  std::vector<Computed<T>> scales;
  for (std::int64_t c = 0; c < shape.channels; ++c) {
    scales.push_back(static_cast<Computed<T>>(0.37 + 0.011 * static_cast<double>(c)));
  }
  return scales;
}

/// Calls body(row, begin, scale) for every row.
template <typename T, typename Body>
void for_each_row(const ScaledValues& shape, const std::vector<Computed<T>>& scales, const Body& body) {
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    body(static_cast<std::size_t>(row * shape.inner), scales[static_cast<std::size_t>(row % shape.channels)]);
  }
}

template <typename T>
void check_forward(const ScaledValues& shape, const QuantRange& range, std::size_t x_offset, std::size_t y_offset) {
  INFO("rows " << shape.rows << ", channels " << shape.channels << ", inner " << shape.inner << ", range " << range.lo
               << " to " << range.hi << ", offsets " << x_offset << " and " << y_offset);
  Buffer<T> x(shape.count(), x_offset);
  Buffer<T> y(shape.count(), y_offset);
  fill(x, 0.013);
  const auto scales = scales_of<T>(shape);
  cuda::fake_quantize(x.data(), shape, scales.data(), range, y.data(), {});
  y.check_guards();
  std::vector<T> wanted(x.count);
  for_each_row<T>(shape, scales, [&](std::size_t begin, Computed<T> scale) {
    cpu::fake_quantize(x.data() + begin, shape.inner, scale, range, wanted.data() + begin);
  });
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!same_bits<T>(y[i], wanted[i])) FAIL("value " << i);
  }
  // In place.
  cuda::fake_quantize(x.data(), shape, scales.data(), range, x.data(), {});
  x.check_guards();
  for (std::size_t i = 0; i < wanted.size(); ++i) REQUIRE(same_bits<T>(x[i], wanted[i]));
}

TEMPLATE_TEST_CASE("cuda fake_quantize: the bits of the CPU", "[cuda][fake_quantize]", float, double, BFloat16,
                   Float16) {
  emulation::in_every_order([] {
    for (const ScaledValues& shape : kShapes) {
      for (const QuantRange& range : kRanges) check_forward<TestType>(shape, range, 0, 0);
    }
    for (std::size_t offset = 0; offset < 9; ++offset) {
      check_forward<TestType>({1, 1, 45}, kRanges[0], offset, offset);
      check_forward<TestType>({3, 3, 15}, kRanges[1], offset, 0);
    }
  });
}

TEMPLATE_TEST_CASE("cuda fake_quantize: an unusable scale gives NaN", "[cuda][fake_quantize]", float, double, BFloat16,
                   Float16) {
  using C = Computed<TestType>;
  const std::vector<C> scales = {C(0), C(-1), std::numeric_limits<C>::infinity(), std::numeric_limits<C>::quiet_NaN(),
                                 C(0.5)};
  const ScaledValues shape = {5, 5, 3};
  for (const QuantRange& range : {kRanges[0], kRanges[3]}) {
    Buffer<TestType> x(15, 0);
    for (std::size_t i = 0; i < x.count; ++i) x[i] = stored<TestType>(1.0);
    cuda::fake_quantize(x.data(), shape, scales.data(), range, x.data(), {});
    for (std::size_t i = 0; i < x.count; ++i) {
      const auto value = stored<TestType>(range.binary ? 0.5 : 1.0);
      CHECK(same_bits<TestType>(x[i], i < 12 ? stored<TestType>(std::nan("")) : value));
    }
  }
}

}  // namespace
}  // namespace cimq::kernels
