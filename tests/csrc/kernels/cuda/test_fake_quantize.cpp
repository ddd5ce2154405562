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

template <typename T>
void check_backward(const ScaledValues& shape, const QuantRange& range, std::size_t x_offset, std::size_t grad_offset,
                    bool with_levels, bool every_order) {
  using C = Computed<T>;
  INFO("rows " << shape.rows << ", channels " << shape.channels << ", inner " << shape.inner << ", range " << range.lo
               << " to " << range.hi << ", offsets " << x_offset << " and " << grad_offset);
  Buffer<T> x(shape.count(), x_offset);
  Buffer<T> grad(shape.count(), grad_offset);
  Buffer<T> dx(shape.count(), grad_offset);
  Buffer<T> levels(shape.count(), x_offset);
  for (std::size_t i = 0; i < x.count; ++i) {
    x[i] =
        stored<T>(i % 11 == 0 ? 0.185 * static_cast<double>(i % 7) : static_cast<double>(i * 7919 % 1009) * 0.013 - 5);
    grad[i] = stored<T>(static_cast<double>(i * 104729 % 4001) * 0.0113 - 20.0);
  }
  const auto scales = scales_of<T>(shape);
  const double factor = 0.0625;
  std::vector<double> scratch(static_cast<std::size_t>(cuda::fake_quantize_backward_scratch(shape)), -1.0);
  std::vector<C> scale_gradients(scales.size() + 1, C(-77));
  cuda::fake_quantize_backward(grad.data(), x.data(), shape, scales.data(), range, factor, dx.data(),
                               with_levels ? levels.data() : nullptr, scale_gradients.data(), scratch.data(), {});
  dx.check_guards();
  levels.check_guards();

  std::vector<T> wanted(x.count);
  std::vector<T> wanted_levels(x.count);
  std::vector<double> sums(scales.size(), 0.0);
  std::vector<double> sizes(scales.size(), 0.0);  // sums of the products' magnitudes
  std::size_t row = 0;
  for_each_row<T>(shape, scales, [&](std::size_t begin, C scale) {
    const std::size_t channel = row++ % scales.size();
    sums[channel] += cpu::fake_quantize_backward(grad.data() + begin, x.data() + begin, shape.inner, scale, range,
                                                 wanted.data() + begin, wanted_levels.data() + begin);
    for (std::size_t i = begin; i < begin + static_cast<std::size_t>(shape.inner); ++i) {
      T ignored;
      sizes[channel] += std::abs(cpu::fake_quantize_backward(grad.data() + i, x.data() + i, 1, scale, range, &ignored));
    }
  });
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!same_bits<T>(dx[i], wanted[i])) FAIL("gradient of value " << i);
    if (with_levels && !same_bits<T>(levels[i], wanted_levels[i])) FAIL("level of value " << i);
  }
  for (std::size_t c = 0; c < sums.size(); ++c) {
    const double rounding = std::abs(sums[c]) * (sizeof(C) == 4 ? 0x1p-23 : 0x1p-52);  // of the result itself
    CHECK(std::abs(static_cast<double>(scale_gradients[c]) - factor * sums[c]) <=
          factor * (0x1p-17 * sizes[c] + rounding));
  }
  CHECK(scale_gradients.back() == C(-77));

  if (!every_order) return;
  // The same call gives the same sum, in whatever order the threads ran, and the gradient may be overwritten.
  std::vector<C> again(scales.size(), C(0));
  emulation::in_every_order([&] {
    Buffer<T> same(shape.count(), grad_offset);
    same.all = grad.all;
    cuda::fake_quantize_backward(same.data(), x.data(), shape, scales.data(), range, factor, same.data(),
                                 static_cast<T*>(nullptr), again.data(), scratch.data(), {});
    for (std::size_t i = 0; i < wanted.size(); ++i) REQUIRE(same_bits<T>(same[i], wanted[i]));
    for (std::size_t c = 0; c < again.size(); ++c) CHECK(again[c] == scale_gradients[c]);
  });
}

TEMPLATE_TEST_CASE("cuda fake_quantize_backward: the bits of the CPU, and a sum in one order", "[cuda][fake_quantize]",
                   float, double, BFloat16, Float16) {
  for (const ScaledValues& shape : kShapes) {
    for (const QuantRange& range : kRanges) check_backward<TestType>(shape, range, 0, 0, true, range.lo == -7);
  }
  for (std::size_t offset = 0; offset < 9; ++offset) {
    check_backward<TestType>({1, 1, 45}, kRanges[0], offset, offset, offset % 2 == 0, false);
    check_backward<TestType>({3, 3, 15}, kRanges[1], offset, 0, false, false);
  }
  // Rows of several pieces, one of them a block's and one not full; and an order of channels that repeats.
  check_backward<TestType>({1, 1, 2 * 4096 + 37}, kRanges[0], 0, 0, true, true);
  check_backward<TestType>({4, 2, 4096 + 5}, kRanges[3], 1, 1, true, false);
  check_backward<TestType>({600, 2, 3}, kRanges[0], 0, 0, true, false);
}

TEST_CASE("cuda fake_quantize_backward: no values leave a gradient of zero", "[cuda][fake_quantize]") {
  const std::vector<float> scales = {0.5F, 0.25F};
  std::vector<float> scale_gradients = {-77.0F, -77.0F};
  cuda::fake_quantize_backward<float>(nullptr, nullptr, {2, 2, 0}, scales.data(), kRanges[0], 1.0, nullptr, nullptr,
                                      scale_gradients.data(), nullptr, {});
  CHECK(scale_gradients == std::vector<float>{0.0F, 0.0F});
}

template <typename T, typename Q>
void check_quantize(const ScaledValues& shape, const QuantRange& range, int shift, std::size_t x_offset,
                    std::size_t q_offset) {
  INFO("rows " << shape.rows << ", channels " << shape.channels << ", inner " << shape.inner << ", range " << range.lo
               << " to " << range.hi << ", shift " << shift << ", offsets " << x_offset << " and " << q_offset);
  Buffer<T> x(shape.count(), x_offset);
  for (std::size_t i = 0; i < x.count; ++i) x[i] = stored<T>(static_cast<double>(i * 7919 % 1009) * 0.185 - 90);
  const auto scales = scales_of<T>(shape);
  constexpr Q kGuard = 0x55;
  std::vector<Q> storage(x.count + q_offset + 32, kGuard);
  Q* const q = storage.data() + q_offset + (16 - reinterpret_cast<std::uintptr_t>(storage.data()) % 16) % 16;
  int faults = 0;
  cuda::quantize(x.data(), shape, scales.data(), range, q, shift, &faults, {});
  CHECK(faults == 0);
  std::vector<Q> wanted(storage.size(), kGuard);
  const auto first = static_cast<std::size_t>(q - storage.data());
  for_each_row<T>(shape, scales, [&](std::size_t begin, float scale) {
    REQUIRE(cpu::quantize(x.data() + begin, shape.inner, scale, range, wanted.data() + first + begin, shift));
  });
  REQUIRE(storage == wanted);
  // Each value that is not finite is found, wherever it is, and changes no other.
  for (std::size_t i = 0; i < x.count; i += 5) {
    Buffer<T> with_fault = x;
    with_fault[i] = stored<T>(i % 2 == 0 ? std::nan("") : std::numeric_limits<double>::infinity());
    std::vector<Q> other(storage.size(), kGuard);
    int found = 0;
    cuda::quantize(with_fault.data(), shape, scales.data(), range, other.data() + first, shift, &found, {});
    REQUIRE(found == cuda::kNotFinite);
    other[first + i] = wanted[first + i];
    REQUIRE(other == wanted);
  }
}

TEMPLATE_TEST_CASE("cuda quantize: the bytes of the CPU", "[cuda][quantize]", float, BFloat16, Float16) {
  emulation::in_every_order([] {
    for (const ScaledValues& shape : {ScaledValues{1, 1, 0}, ScaledValues{1, 1, 1}, ScaledValues{1, 1, 50},
                                      ScaledValues{1, 1, 300}, ScaledValues{6, 3, 5}, ScaledValues{4, 2, 16}}) {
      check_quantize<TestType, std::int8_t>(shape, {-128, 127, false}, 0, 0, 0);
      check_quantize<TestType, std::int8_t>(shape, {-1, 1, true}, 0, 0, 0);
      check_quantize<TestType, std::uint8_t>(shape, {0, 255, false}, 0, 0, 0);
      check_quantize<TestType, std::uint8_t>(shape, {-8, 7, false}, 8, 0, 0);
    }
    for (std::size_t offset = 0; offset < 9; ++offset) {
      check_quantize<TestType, std::int8_t>({1, 1, 40}, {-128, 127, false}, 0, offset, 0);
      check_quantize<TestType, std::int8_t>({1, 1, 40}, {-128, 127, false}, 0, offset, offset);
    }
  });
}

TEST_CASE("cuda quantize: an unusable scale is told from a value that is not finite", "[cuda][quantize]") {
  const std::vector<float> x(6, 1.0F);
  std::vector<std::int8_t> q(6);
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    const std::vector<float> scales = {0.5F, bad};
    int faults = 0;
    cuda::quantize(x.data(), {2, 2, 3}, scales.data(), {-7, 7, false}, q.data(), 0, &faults, {});
    CHECK(faults == cuda::kScaleNotUsable);
  }
}

TEST_CASE("cuda fake_quantize: more values than a grid has threads are refused, not wrapped", "[cuda][fake_quantize]") {
  const float scale = 0.5F;
  CHECK_THROWS_WITH(cuda::fake_quantize<float>(nullptr, {1, 1, std::int64_t{1} << 50}, &scale, kRanges[0], nullptr, {}),
                    Catch::Matchers::Contains("fake_quantize: the CUDA kernel fake_quantize_forward for rows 1, "
                                              "channels 1, inner 1125899906842624 did not start"));
}

}  // namespace
}  // namespace cimq::kernels
