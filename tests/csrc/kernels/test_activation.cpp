#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/activation.h"

namespace cimq::kernels {
namespace {

/// Distance in representable numbers of one sign.
std::int64_t distance(float a, float b) {
  std::int32_t i = 0;
  std::int32_t j = 0;
  std::memcpy(&i, &a, 4);
  std::memcpy(&j, &b, 4);
  return std::abs(static_cast<std::int64_t>(i) - static_cast<std::int64_t>(j));
}

std::vector<float> samples() {
  std::vector<float> x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(static_cast<float>(i) * 0.027F);
  for (int e = -140; e < 120; ++e) {
    x.push_back(std::ldexp(1.1F, e));
    x.push_back(-std::ldexp(1.3F, e));
  }
  return x;
}

}  // namespace

TEST_CASE("sigmoid and silu are the correctly rounded values, up to one step in the last place", "[activation]") {
  int differences = 0;
  for (const float x : samples()) {
    const long double exact = 1.0L / (1.0L + std::exp(-static_cast<long double>(x)));
    const auto sigmoid_wanted = static_cast<float>(exact);
    const auto silu_wanted = static_cast<float>(static_cast<long double>(x) * exact);
    const float sigmoid_got = activate(Activation::kSigmoid, x);
    const float silu_got = activate(Activation::kSilu, x);
    INFO("x = " << x);
    REQUIRE(distance(sigmoid_got, sigmoid_wanted) <= 1);
    REQUIRE(distance(silu_got, silu_wanted) <= 1);
    differences += static_cast<int>(sigmoid_got != sigmoid_wanted) + static_cast<int>(silu_got != silu_wanted);
  }
  CHECK(differences <= 2);
}

TEST_CASE("exp of a negative number is accurate to float64", "[activation]") {
  for (int i = 0; i <= 20000; ++i) {
    const double t = -0.01 * i;
    const double wanted = std::exp(t);
    REQUIRE(std::abs(exp_of_negative(t) - wanted) <= 4e-16 * wanted);
  }
  CHECK(exp_of_negative(0.0) == 1.0);
  CHECK(exp_of_negative(-1e300) == exp_of_negative(-200.0));
}

TEST_CASE("hard activations are float32 from left to right", "[activation]") {
  for (const float x : samples()) {
    const float gate = std::fmin(std::fmax(x + 3.0F, 0.0F), 6.0F);
    const float product = x * gate;
    REQUIRE(activate(Activation::kHardsigmoid, x) == gate / 6.0F);
    REQUIRE(activate(Activation::kHardswish, x) == product / 6.0F);
  }
}

TEST_CASE("activations at the ends of the range", "[activation]") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(activate(Activation::kSigmoid, infinity) == 1.0F);
  CHECK(activate(Activation::kSigmoid, -infinity) == 0.0F);
  CHECK(activate(Activation::kSilu, infinity) == infinity);
  CHECK(activate(Activation::kSilu, -infinity) == 0.0F);
  CHECK(activate(Activation::kSigmoid, 0.0F) == 0.5F);
  for (const auto kind : {Activation::kSigmoid, Activation::kSilu, Activation::kHardsigmoid, Activation::kHardswish}) {
    CHECK(std::isnan(activate(kind, std::numeric_limits<float>::quiet_NaN())));
    CHECK(activation_of(name_of(kind)) == kind);
  }
  CHECK_FALSE(activation_of("mish").has_value());
}

TEST_CASE("an array of activations may be its own result", "[activation]") {
  std::vector<float> x{-2.0F, 0.5F, 4.0F};
  const std::vector<float> before = x;
  cpu::activation(Activation::kSilu, x.data(), 3, x.data());
  for (std::size_t i = 0; i < 3; ++i) CHECK(x[i] == activate(Activation::kSilu, before[i]));
}

}  // namespace cimq::kernels
