#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "every_isa.h"
#include "kernels/cpu/quantise/float16_blocks.h"
#include "kernels/fake_quantize.h"
#include "kernels/formula/fake_quantize.h"

namespace cimq::kernels {
namespace {

constexpr std::uint16_t kGuard = 0xabcd;

/// All patterns of bits, in an order that mixes large and small ones.
template <typename T>
std::vector<T> patterns(std::int64_t count, std::uint32_t step) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back({static_cast<std::uint16_t>(static_cast<std::uint32_t>(i) * step + 77U)});
  }
  return values;
}

template <typename T>
std::vector<float> as_floats(const std::vector<T>& values) {
  std::vector<float> floats;
  for (const T value : values) floats.push_back(widened(value));
  return floats;
}

template <typename T>
void check_same(const std::vector<T>& got, const std::vector<float>& wanted) {
  REQUIRE(got.size() == wanted.size() + 1);
  REQUIRE(got.back().bits == kGuard);  // nothing is written behind the last value
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    INFO("value " << i << " of " << wanted.size());
    REQUIRE(got[i].bits == narrowed<T>(wanted[i]).bits);
  }
}

template <typename T>
void check_blocks() {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    INFO(isa.name);
    const cpu::Float16Blocks<T> blocks = cpu::float16_blocks<T>(isa.used);
    for (const std::int64_t count : {0, 1, 7, 8, 15, 16, 17, 31, 33, 65536}) {
      const std::vector<T> source = patterns<T>(count, 40503U);
      std::vector<float> wide(source.size() + 1, 3.5F);
      blocks.widen(source.data(), count, wide.data());
      REQUIRE(wide.back() == 3.5F);
      wide.pop_back();
      for (std::size_t i = 0; i < wide.size(); ++i) {
        REQUIRE(std::bit_cast<std::uint32_t>(wide[i]) == std::bit_cast<std::uint32_t>(widened(source[i])));
      }
      // Values between those of 16 bits as well.
      for (std::size_t i = 0; i < wide.size(); ++i) wide[i] *= 1.0F + static_cast<float>(i % 97) * 0x1p-13F;
      std::vector<T> narrow(source.size() + 1, T{kGuard});
      blocks.narrow(wide.data(), count, narrow.data());
      check_same<T>(narrow, wide);
    }
  }
}

template <typename T>
void check_fake_quantize(const QuantRange& range) {
  for (const std::int64_t count : {0, 1, 3, 15, 16, 17, 2047, 2048, 2049, 2064, 4096 + 2047, 65536}) {
    const float scale = 0.37F;
    const std::vector<T> x = patterns<T>(count, 40503U);
    const std::vector<float> wide = as_floats(x);
    std::vector<float> wanted(wide.size());
    cpu::fake_quantize(wide.data(), count, scale, range, wanted.data());
    std::vector<T> got(x.size() + 1, T{kGuard});
    cpu::fake_quantize(x.data(), count, scale, range, got.data());
    check_same<T>(got, wanted);

    // Gradients that are finite, so that the sum tells values apart.
    std::vector<T> grad = patterns<T>(count, 9973U);
    for (T& value : grad) value = narrowed<T>(static_cast<float>(value.bits % 4001) * 0.0113F - 20.0F);
    std::vector<T> finite = x;
    for (T& value : finite) value = narrowed<T>(static_cast<float>(value.bits % 1009) * 0.013F - 5.0F);
    const std::vector<float> wide_x = as_floats(finite);
    const std::vector<float> wide_grad = as_floats(grad);
    const double sum = cpu::fake_quantize_backward(wide_grad.data(), wide_x.data(), count, scale, range, wanted.data());
    CHECK(cpu::fake_quantize_backward(grad.data(), finite.data(), count, scale, range, got.data()) == sum);
    check_same<T>(got, wanted);
    grad.push_back({kGuard});
    CHECK(cpu::fake_quantize_backward(grad.data(), finite.data(), count, scale, range, grad.data()) == sum);
    check_same<T>(grad, wanted);
  }
}

/// The formulas of one value, and the order of the sum: sixteen lanes side by side within 2048 values, then what is
/// left.
void check_plain_loops(const QuantRange& range) {
  constexpr std::int64_t kRun = 2048;
  constexpr std::int64_t kLanes = 16;
  const float scale = 0.37F;
  const auto lo = static_cast<float>(range.lo);
  const auto hi = static_cast<float>(range.hi);
  for (const std::int64_t count : {0, 1, 15, 16, 17, 47, 2047, 2048, 2049, 2064, 5000}) {
    INFO("range " << range.lo << " to " << range.hi << ", " << count << " values");
    std::vector<float> x;
    std::vector<float> grad;
    for (std::int64_t i = 0; i < count; ++i) {
      x.push_back(static_cast<float>(i * 7919 % 1009) * 0.11F - 55.0F);
      grad.push_back(static_cast<float>(i * 104729 % 4001) * 0.0113F - 20.0F);
    }
    if (count > 20) {
      x[3] = scale * 0.5F;  // a tie
      x[4] = scale * 1.5F;
      x[5] = -0.0F;
      x[6] = scale * hi;
      x[18] = std::numeric_limits<float>::infinity();
    }
    std::vector<float> y(x.size());
    std::vector<float> dx(x.size());
    cpu::fake_quantize(x.data(), count, scale, range, y.data());
    const double sum = cpu::fake_quantize_backward(grad.data(), x.data(), count, scale, range, dx.data());
    std::vector<float> same(x.size());
    std::vector<float> levels(x.size() + 1, 0.25F);
    const double again =
        cpu::fake_quantize_backward(grad.data(), x.data(), count, scale, range, same.data(), levels.data());
    REQUIRE((again == sum || (std::isnan(again) && std::isnan(sum))));
    REQUIRE(levels.back() == 0.25F);
    double wanted = 0.0;
    for (std::int64_t begin = 0; begin < count; begin += kRun) {
      const std::int64_t some = std::min(kRun, count - begin);
      float lanes[kLanes] = {};
      std::vector<double> rest;
      for (std::int64_t i = 0; i < some; ++i) {
        const auto at = static_cast<std::size_t>(begin + i);
        const auto d = range.binary ? fake_quantize_gradient<true, float>(x[at], scale, lo, hi)
                                    : fake_quantize_gradient<false, float>(x[at], scale, lo, hi);
        const float level =
            range.binary ? quantized<true, float>(x[at], scale, lo, hi) : quantized<false, float>(x[at], scale, lo, hi);
        REQUIRE(std::bit_cast<std::uint32_t>(y[at]) == std::bit_cast<std::uint32_t>(level * scale));
        REQUIRE(dx[at] == grad[at] * d.x);
        REQUIRE(same[at] == dx[at]);
        REQUIRE(levels[at] == level);
        const float term = grad[at] * d.scale;
        if (i < some / kLanes * kLanes) {
          lanes[i % kLanes] += term;
        } else {
          rest.push_back(static_cast<double>(term));
        }
      }
      for (const float lane : lanes) wanted += static_cast<double>(lane);
      for (const double term : rest) wanted += term;
    }
    REQUIRE((sum == wanted || (std::isnan(sum) && std::isnan(wanted))));
  }
}

template <typename T, typename Q>
void check_integers(const QuantRange& range, int shift) {
  const float scale = 0.37F;
  for (const std::int64_t count : {0, 1, 3, 15, 16, 17, 33, 2049, 65536}) {
    std::vector<T> x = patterns<T>(count, 40503U);
    for (T& value : x) value = narrowed<T>(static_cast<float>(value.bits % 1009) * 0.013F - 5.0F);
    const std::vector<float> wide = as_floats(x);
    std::vector<Q> got(x.size() + 1, Q{77});
    REQUIRE(cpu::quantize(x.data(), count, scale, range, got.data(), shift));
    std::vector<Q> same(x.size());
    REQUIRE(cpu::quantize(wide.data(), count, scale, range, same.data(), shift));
    REQUIRE(got.back() == Q{77});
    for (std::size_t i = 0; i < wide.size(); ++i) {
      const auto lo = static_cast<float>(range.lo);
      const auto hi = static_cast<float>(range.hi);
      const float level = range.binary ? quantized<true, float>(wide[i], scale, lo, hi)
                                       : quantized<false, float>(wide[i], scale, lo, hi);
      REQUIRE(static_cast<int>(got[i]) == static_cast<int>(level) + shift);
      REQUIRE(same[i] == got[i]);
    }
  }
}

}  // namespace

TEST_CASE("Fake quantisation has the bits of the scalar formulas, and its sum their order", "[quantize]") {
  for (const QuantRange& range : {QuantRange{0, 15, false}, QuantRange{-128, 127, false}, QuantRange{-1, 1, true}}) {
    testing::on_every_isa([&] { check_plain_loops(range); });
  }
}

TEST_CASE("Integers are those of the scalar formula, shifted if asked for", "[quantize]") {
  testing::on_every_isa([] {
    check_integers<BFloat16, std::uint8_t>({0, 15, false}, 0);
    check_integers<BFloat16, std::uint8_t>({-8, 7, false}, 128);
    check_integers<Float16, std::uint8_t>({0, 255, false}, 0);
    check_integers<Float16, std::int8_t>({-128, 127, false}, 0);
    check_integers<BFloat16, std::int8_t>({-1, 1, true}, 0);
  });
}

TEST_CASE("Blocks of 16-bit floats have the values of the scalar formulas on every instruction set", "[quantize]") {
  check_blocks<BFloat16>();
  check_blocks<Float16>();
}

TEST_CASE("Fake quantisation of 16-bit floats is that of float32, rounded", "[quantize]") {
  for (const QuantRange& range : {QuantRange{0, 15, false}, QuantRange{-128, 127, false}, QuantRange{-1, 1, true}}) {
    INFO("range " << range.lo << " to " << range.hi);
    testing::on_every_isa([&] {
      check_fake_quantize<BFloat16>(range);
      check_fake_quantize<Float16>(range);
    });
  }
}

}  // namespace cimq::kernels
