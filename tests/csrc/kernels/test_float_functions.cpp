#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/error.h"
#include "kernels/activation.h"
#include "kernels/formula/float_functions.h"
#include "kernels/normalization.h"
#include "kernels/softmax.h"

namespace cimq::kernels {
namespace {

std::int64_t distance(float a, float b) {
  const auto place = [](float x) {
    std::int32_t bits = 0;
    std::memcpy(&bits, &x, 4);
    return bits < 0 ? -static_cast<std::int64_t>(bits & 0x7FFFFFFF) : std::int64_t{bits};
  };
  return std::abs(place(a) - place(b));
}

std::uint32_t bits_of(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, 4);
  return bits;
}

std::vector<float> samples() {
  std::vector<float> x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(static_cast<float>(i) * 0.0051F);
  for (int e = -140; e < 120; ++e) {
    x.push_back(std::ldexp(1.1F, e));
    x.push_back(-std::ldexp(1.3F, e));
  }
  return x;
}

}  // namespace

TEST_CASE("float64 functions are accurate", "[float]") {
  for (int i = 0; i <= 60000; ++i) {
    const double t = -0.01 * i;
    const double exact = std::exp(t);
    REQUIRE(std::abs(exp_negative(t) - exact) <= 1e-15 * exact);
    const double small = -std::ldexp(1.0 + 1e-5 * i, -(i % 60) - 2);
    REQUIRE(std::abs(expm1_negative(small) - std::expm1(small)) <= -1e-15 * std::expm1(small));
    REQUIRE(std::abs(expm1_negative(t) - std::expm1(t)) <= -1e-15 * std::expm1(t));
    const double x = std::ldexp(1.0 + i / 60000.0, i % 200 - 100);
    REQUIRE(std::abs(log_positive(x) - std::log(x)) <= 4e-16 * std::max(1.0, std::abs(std::log(x))));
    const double s = 16.0 * i / 60001.0;
    const double tail = 0.5 * std::erfc(s / std::sqrt(2.0));
    REQUIRE(std::abs(normal_tail(s) - tail) <= 1e-13 * tail);
    for (const double v : {s - 8.0, small}) {
      REQUIRE(std::abs(erf_of(v) - std::erf(v)) <= 1e-13 * std::abs(std::erf(v)));
    }
  }
  CHECK(exp_negative(0.0) == 1.0);
  CHECK(exp_negative(-1e300) == exp_negative(-700.0));
  CHECK(exp_negative(-std::numeric_limits<double>::infinity()) == exp_negative(-700.0));
  CHECK(std::isnan(exp_negative(std::numeric_limits<double>::quiet_NaN())));
  CHECK(std::isnan(log_positive(std::numeric_limits<double>::quiet_NaN())));
  CHECK(log_positive(1.0) == 0.0);
  CHECK(normal_tail(0.0) == Approx(0.5).epsilon(1e-14));
  CHECK(normal_tail(1e300) == 0.0);
  CHECK(erf_of(-std::numeric_limits<double>::infinity()) == -1.0);
  CHECK(std::isnan(erf_of(std::numeric_limits<double>::quiet_NaN())));
  CHECK(bits_of(static_cast<float>(erf_of(0.3F))) == bits_of(std::erf(0.3F)));
}

TEST_CASE("smooth activations are the correctly rounded values, up to one step in the last place", "[activation]") {
  int differences = 0;
  for (const float x : samples()) {
    const long double v = x;
    const long double z = 1.5957691216057308L * (v + 0.044715L * v * v * v);
    const auto check = [&](Activation kind, long double exact, float alpha = 1.0F) {
      const float got = activate(kind, x, alpha);
      const auto wanted = static_cast<float>(exact);
      INFO(name_of(kind) << " of " << x << ": " << got << ", " << wanted);
      REQUIRE(distance(got, wanted) <= 1);
      differences += static_cast<int>(got != wanted);
    };
    check(Activation::kTanh, std::tanh(v));
    if (x > -16.0F) check(Activation::kGelu, v * 0.5L * std::erfc(-v / std::sqrt(2.0L)));
    if (x > -100.0F) check(Activation::kGeluTanh, v / (1.0L + std::exp(-z)));
    check(Activation::kElu, x > 0.0F ? v : 0.7F * std::expm1(v), 0.7F);
  }
  CHECK(differences <= 7);  // GELU of small odd denormals: half of them is a tie missed by a hair
}

TEST_CASE("bits of smooth activations are those of every machine", "[activation]") {
  // Written down once, from an x86-64: another processor or compiler must give the same.
  CHECK(bits_of(activate(Activation::kTanh, 0.3F)) == 0x3E9526EEU);
  CHECK(bits_of(activate(Activation::kGelu, -1.7F)) == 0xBD9B28BBU);
  CHECK(bits_of(activate(Activation::kGeluTanh, -1.7F)) == 0xBD9B6E5EU);
  CHECK(bits_of(activate(Activation::kElu, -0.9F, 0.3F)) == 0xBE364D43U);
}

TEST_CASE("smooth activations at the ends of the range", "[activation]") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(activate(Activation::kTanh, infinity) == 1.0F);
  CHECK(activate(Activation::kTanh, -infinity) == -1.0F);
  CHECK(activate(Activation::kGelu, -infinity) == 0.0F);
  CHECK(activate(Activation::kGelu, infinity) == infinity);
  CHECK(activate(Activation::kGeluTanh, -infinity) == 0.0F);
  CHECK(activate(Activation::kGeluTanh, infinity) == infinity);
  CHECK(activate(Activation::kElu, -infinity, 2.0F) == -2.0F);
  CHECK(std::signbit(activate(Activation::kTanh, -0.0F)));
  for (const auto kind : {Activation::kTanh, Activation::kGelu, Activation::kGeluTanh, Activation::kElu}) {
    CHECK(std::isnan(activate(kind, std::numeric_limits<float>::quiet_NaN())));
    CHECK(activation_of(name_of(kind)) == kind);
  }
}

TEST_CASE("softmax along the middle dimension", "[softmax]") {
  // [2, 3, 2]: lines are 2 apart.
  const std::vector<float> x = {1, 5, 2, 5, 3, 5, -100, 0, 0, 100, 100, 0};
  for (const bool logarithm : {false, true}) {
    std::vector<float> y(x.size());
    cpu::softmax(x.data(), 2, 3, 2, logarithm, y.data());
    for (std::size_t o = 0; o < 2; ++o) {
      for (std::size_t i = 0; i < 2; ++i) {
        long double sum = 0.0L;
        long double top = -1e30L;
        for (std::size_t k = 0; k < 3; ++k) top = std::max<long double>(top, x[o * 6 + k * 2 + i]);
        for (std::size_t k = 0; k < 3; ++k) sum += std::exp(x[o * 6 + k * 2 + i] - top);
        for (std::size_t k = 0; k < 3; ++k) {
          const long double shifted = x[o * 6 + k * 2 + i] - top;
          const auto wanted = static_cast<float>(logarithm ? shifted - std::log(sum) : std::exp(shifted) / sum);
          CHECK(distance(y[o * 6 + k * 2 + i], wanted) <= 1);
        }
      }
    }
    std::vector<float> same = x;
    cpu::softmax(same.data(), 2, 3, 2, logarithm, same.data());
    CHECK(same == y);
  }
}

TEST_CASE("normalisations by hand", "[normalization]") {
  const std::vector<float> x = {1, 3, 2, 6, 0, 0, 8, 8};
  std::vector<float> y(8);
  const std::vector<float> weight = {2, 1};
  const std::vector<float> bias = {0.5F, -1};
  cpu::layer_norm(x.data(), 4, 2, weight.data(), bias.data(), 0.0, y.data());
  CHECK(std::vector<float>(y.begin(), y.begin() + 4) == std::vector<float>{-1.5F, 0, -1.5F, 0});
  CHECK(std::isnan(y[4]));  // no deviation and no eps: 0 * infinity, as in PyTorch
  cpu::layer_norm(x.data(), 4, 2, nullptr, nullptr, 3.0, y.data());
  CHECK(std::vector<float>(y.begin(), y.begin() + 2) == std::vector<float>{-0.5F, 0.5F});
  CHECK(y[4] == 0.0F);
  // [1, 4, 2] in two groups: {1, 3, 2, 6} has mean 3 and variance 3.5, {0, 0, 8, 8} mean 4 and variance 16.
  const std::vector<float> four = {1, 2, 3, 4};
  cpu::group_norm(x.data(), 1, 4, 2, 2, four.data(), nullptr, 0.5, y.data());
  CHECK(std::vector<float>(y.begin(), y.begin() + 4) == std::vector<float>{-1, 0, -1, 3});
  cpu::group_norm(x.data(), 1, 4, 2, 2, nullptr, four.data(), 0.0, y.data());
  CHECK(std::vector<float>(y.begin() + 4, y.end()) == std::vector<float>{2, 2, 5, 5});
  CHECK_THROWS_AS(cpu::group_norm(x.data(), 1, 4, 2, 3, nullptr, nullptr, 0.0, y.data()), Error);
}

}  // namespace cimq::kernels
