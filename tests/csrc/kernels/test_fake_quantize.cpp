#include <bit>
#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "kernels/cpu/float16_blocks.h"
#include "kernels/fake_quantize.h"

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
  for (const cpu::Float16Blocks<T>& blocks : cpu::available_float16_blocks<T>()) {
    INFO(blocks.isa);
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
    fake_quantize(wide.data(), count, scale, range, wanted.data());
    std::vector<T> got(x.size() + 1, T{kGuard});
    fake_quantize(x.data(), count, scale, range, got.data());
    check_same<T>(got, wanted);

    // Gradients that are finite, so that the sum tells values apart.
    std::vector<T> grad = patterns<T>(count, 9973U);
    for (T& value : grad) value = narrowed<T>(static_cast<float>(value.bits % 4001) * 0.0113F - 20.0F);
    std::vector<T> finite = x;
    for (T& value : finite) value = narrowed<T>(static_cast<float>(value.bits % 1009) * 0.013F - 5.0F);
    const std::vector<float> wide_x = as_floats(finite);
    const std::vector<float> wide_grad = as_floats(grad);
    const double sum = fake_quantize_backward(wide_grad.data(), wide_x.data(), count, scale, range, wanted.data());
    CHECK(fake_quantize_backward(grad.data(), finite.data(), count, scale, range, got.data()) == sum);
    check_same<T>(got, wanted);
    grad.push_back({kGuard});
    CHECK(fake_quantize_backward(grad.data(), finite.data(), count, scale, range, grad.data()) == sum);
    check_same<T>(grad, wanted);
  }
}

}  // namespace

TEST_CASE("Blocks of 16-bit floats have the values of the scalar formulas on every instruction set", "[quantize]") {
  check_blocks<BFloat16>();
  check_blocks<Float16>();
}

TEST_CASE("Fake quantisation of 16-bit floats is that of float32, rounded", "[quantize]") {
  for (const QuantRange& range : {QuantRange{0, 15, false}, QuantRange{-128, 127, false}, QuantRange{-1, 1, true}}) {
    INFO("range " << range.lo << " to " << range.hi);
    check_fake_quantize<BFloat16>(range);
    check_fake_quantize<Float16>(range);
  }
}

}  // namespace cimq::kernels
