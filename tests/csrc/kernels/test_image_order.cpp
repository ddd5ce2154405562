#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/image_order.h"

namespace cimq::kernels {
namespace {

constexpr std::int64_t kSizes[] = {1, 3, 15, 16, 17, 64, 65, 130};

template <typename T>
T element(std::int64_t i) {
  const float value = static_cast<float>(i % 251) * 0.5F - 60.0F;
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return narrowed<T>(value);
  }
}

template <typename T>
float as_float(T value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return widened(value);
  }
}

/// Calls body(channels, pixels, run) for whole images and for parts of them.
template <typename Body>
void for_each_run(const Body& body) {
  for (const std::int64_t channels : kSizes) {
    for (const std::int64_t pixels : kSizes) {
      INFO(channels << " channels, " << pixels << " pixels");
      body(PixelRun{channels, pixels, 0, pixels});
      if (pixels > 2) body(PixelRun{channels, pixels, 1, pixels - 1});
    }
  }
}

template <typename T>
void check_orders() {
  for_each_run([](const PixelRun& run) {
    const std::int64_t size = run.channels * run.pixels;
    std::vector<T> first;
    for (std::int64_t i = 0; i < size; ++i) first.push_back(element<T>(i));
    std::vector<T> last(first.size() + 1, element<T>(7));
    cpu::channels_last(first.data(), run, last.data());
    std::vector<T> back(first.size() + 1, element<T>(7));
    cpu::channels_first(last.data(), run, back.data());
    const float untouched = as_float(element<T>(7));
    REQUIRE(as_float(last.back()) == untouched);
    REQUIRE(as_float(back.back()) == untouched);
    for (std::int64_t c = 0; c < run.channels; ++c) {
      for (std::int64_t pixel = 0; pixel < run.pixels; ++pixel) {
        const bool inside = pixel >= run.begin && pixel < run.end;
        const auto here = static_cast<std::size_t>(c * run.pixels + pixel);
        const auto there = static_cast<std::size_t>(pixel * run.channels + c);
        const float wanted = inside ? as_float(first[here]) : untouched;
        REQUIRE(as_float(last[there]) == wanted);
        REQUIRE(as_float(back[here]) == wanted);
      }
    }
  });
}

template <typename T>
void check_quantized() {
  for_each_run([](const PixelRun& run) {
    const std::int64_t size = run.channels * run.pixels;
    std::vector<T> x;
    for (std::int64_t i = 0; i < size; ++i) x.push_back(element<T>(i));
    std::vector<std::uint8_t> wanted(x.size());
    REQUIRE(cpu::quantize(x.data(), size, 0.7F, {-8, 7, false}, wanted.data(), 128));
    std::vector<std::uint8_t> got(x.size() + 1, 77);
    REQUIRE(cpu::quantize_channels_last(x.data(), run, 0.7F, {-8, 7, false}, 128, got.data()));
    REQUIRE(got.back() == 77);
    for (std::int64_t c = 0; c < run.channels; ++c) {
      for (std::int64_t pixel = 0; pixel < run.pixels; ++pixel) {
        const bool inside = pixel >= run.begin && pixel < run.end;
        const int here = wanted[static_cast<std::size_t>(c * run.pixels + pixel)];
        REQUIRE(got[static_cast<std::size_t>(pixel * run.channels + c)] == (inside ? here : 77));
      }
    }
  });
}

template <typename T>
void check_gradients() {
  for_each_run([](const PixelRun& run) {
    const std::int64_t size = run.channels * run.pixels;
    std::vector<T> x;
    std::vector<T> grad;  // in the order of x
    for (std::int64_t i = 0; i < size; ++i) {
      x.push_back(element<T>(i));
      grad.push_back(element<T>(3 * i + 1));
    }
    std::vector<T> wanted(x.size());
    std::vector<T> integers(x.size());
    cpu::fake_quantize_backward(grad.data(), x.data(), size, 0.7F, {-8, 7, false}, wanted.data(), integers.data());
    const T untouched = element<T>(7);
    std::vector<T> last(x.size(), untouched);
    cpu::channels_last(grad.data(), {run.channels, run.pixels, 0, run.pixels}, last.data());
    std::vector<T> dx(x.size() + 1, untouched);
    std::vector<T> levels(x.size() + 1, untouched);
    const double total = cpu::fake_quantize_backward_channels_last(last.data(), x.data(), run, 0.7F, {-8, 7, false},
                                                                   dx.data(), levels.data());
    double sum = 0.0;
    double magnitude = 0.0;
    REQUIRE(as_float(dx.back()) == as_float(untouched));
    REQUIRE(as_float(levels.back()) == as_float(untouched));
    for (std::int64_t c = 0; c < run.channels; ++c) {
      for (std::int64_t pixel = 0; pixel < run.pixels; ++pixel) {
        const bool inside = pixel >= run.begin && pixel < run.end;
        const auto here = static_cast<std::size_t>(c * run.pixels + pixel);
        const auto there = static_cast<std::size_t>(pixel * run.channels + c);
        REQUIRE(as_float(dx[here]) == as_float(inside ? wanted[here] : untouched));
        REQUIRE(as_float(levels[there]) == as_float(inside ? integers[here] : untouched));
        if (!inside) continue;
        T unused_dx{};
        const double one = cpu::fake_quantize_backward(&grad[here], &x[here], 1, 0.7F, {-8, 7, false}, &unused_dx);
        sum += one;
        magnitude += std::abs(one);
      }
    }
    REQUIRE(std::abs(total - sum) <= 1e-5 * magnitude + 1e-6);
  });
}

}  // namespace

TEST_CASE("Gradients on the way between the orders are those of fake_quantize_backward", "[quantize]") {
  check_gradients<float>();
  check_gradients<BFloat16>();
}

TEST_CASE("Images change their order and nothing else, also in part", "[quantize]") {
  check_orders<float>();
  check_orders<BFloat16>();
}

TEST_CASE("Quantising into channels-last order gives the integers of quantize", "[quantize]") {
  check_quantized<float>();
  check_quantized<BFloat16>();
}

TEST_CASE("NaN and infinity in an image are found, at whatever place", "[quantize]") {
  const PixelRun run{17, 19, 0, 19};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (std::size_t at = 0; at < 17 * 19; ++at) {
      std::vector<float> x(17 * 19, 1.0F);
      std::vector<std::uint8_t> q(x.size());
      x[at] = bad;
      REQUIRE_FALSE(cpu::quantize_channels_last(x.data(), run, 1.0F, {0, 3, false}, 0, q.data()));
    }
  }
}

}  // namespace cimq::kernels
