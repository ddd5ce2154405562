#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "every_isa.h"
#include "kernels/cpu/mvm/crossbar_conv2d.h"
#include "kernels/noise/read_noise.h"
#include "random_case.h"

namespace cimq::kernels::testing {
namespace {

Hardware reading(const ReadNoise& read) {
  Hardware hw;
  hw.rows = 64;
  hw.sign_magnitude = true;  // one slice for the weights below
  hw.cell.read = read;
  return hw;
}

struct Moments {
  double mean = 0.0;
  double variance = 0.0;
};

/// Moments of the result over accesses of one column.
Moments moments(const Hardware& hw, const MvmOptions& options, const std::vector<std::int8_t>& w,
                const std::vector<std::uint8_t>& x, std::int64_t accesses) {
  const auto inputs = static_cast<std::int64_t>(w.size());
  std::vector<std::uint8_t> rows;
  for (std::int64_t b = 0; b < accesses; ++b) rows.insert(rows.end(), x.begin(), x.end());
  std::vector<float> y(static_cast<std::size_t>(accesses));
  cpu::CrossbarMvm({hw, w.data(), 1, inputs, options}).run(rows.data(), accesses, y.data());
  Moments result;
  for (const float value : y) result.mean += double{value} / static_cast<double>(accesses);
  for (const float value : y) {
    result.variance += (value - result.mean) * (value - result.mean) / static_cast<double>(accesses - 1);
  }
  return result;
}

}  // namespace

TEST_CASE("the integer square root is exact", "[read]") {
  for (const std::int64_t root : {0LL, 1LL, 2LL, 255LL, 46341LL, 1000003LL, 67108863LL}) {
    CHECK(integer_sqrt(root * root) == root);
    CHECK(integer_sqrt(root * root + root) == root);
    if (root > 0) CHECK(integer_sqrt(root * root - 1) == root - 1);
  }
}

TEST_CASE("read noise has the variance of the cells that are read", "[read]") {
  constexpr std::int64_t kAccesses = 20000;
  const double tolerance = 4.0 * std::sqrt(2.0 / static_cast<double>(kAccesses));
  MvmOptions options;
  options.weight_bits = 5;
  options.act_bits = 2;
  const std::vector<std::int8_t> w{15, -7, 3, 0, 12, -1, 8, 5};
  const std::vector<std::uint8_t> x{3, 1, 2, 0, 3, 3, 1, 2};
  double squares = 0.0;   // sum over digits of weight^2 * used rows
  double weighted = 0.0;  // the same with the squared conductances
  double value = 0.0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const double both = (x[k] & 1U) + 4.0 * (x[k] >> 1);
    squares += both;
    weighted += both * w[k] * w[k];
    value += x[k] * w[k];
  }
  SECTION("constant: both cells of every used pair") {
    const Moments m = moments(reading({"constant", 0.5}), options, w, x, kAccesses);
    const double expected = 2.0 * 0.25 * squares;
    CHECK(m.variance == Approx(expected).epsilon(tolerance));
    CHECK(std::abs(m.mean - value) < 4.0 * std::sqrt(expected / kAccesses));
  }
  SECTION("proportional") {
    const Moments m = moments(reading({"proportional", 0.0, std::nullopt, 0.05}), options, w, x, kAccesses);
    const double expected = 0.05 * 0.05 * weighted;
    CHECK(m.variance == Approx(expected).epsilon(tolerance + 0.02));  // variances of cells are rounded
    CHECK(std::abs(m.mean - value) < 4.0 * std::sqrt(expected / kAccesses));
  }
  SECTION("several bits per digit count squared") {
    Hardware hw = reading({"constant", 0.5});
    hw.dac_bits = 2;
    double digits = 0.0;
    for (const std::uint8_t digit : x) digits += double{static_cast<double>(digit)} * digit;
    const Moments m = moments(hw, options, w, x, kAccesses);
    CHECK(m.variance == Approx(2.0 * 0.25 * digits).epsilon(tolerance));
  }
}

TEST_CASE("accesses, columns, tiles and digits are independent; the same access is the same noise", "[read]") {
  Hardware hw = reading({"constant", 1.0});
  hw.rows = 4;
  MvmOptions options;
  options.weight_bits = 4;
  options.act_bits = 1;
  const std::vector<std::int8_t> w(3 * 8, 0);  // cells of level 0: the result is the noise alone
  const std::vector<std::uint8_t> x(2 * 8, 1);
  const cpu::CrossbarMvm mvm({hw, w.data(), 3, 8, options});
  std::vector<float> y(6);
  std::vector<float> again(6);
  mvm.run(x.data(), 2, y.data(), 10);
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < i; ++j) CHECK(y[i] != y[j]);
  }
  mvm.run(x.data(), 1, again.data(), 11);
  for (std::size_t o = 0; o < 3; ++o) CHECK(again[o] == y[3 + o]);
  options.chip = 1;
  cpu::CrossbarMvm({hw, w.data(), 3, 8, options}).run(x.data(), 2, again.data(), 10);
  for (std::size_t i = 0; i < 6; ++i) CHECK(again[i] != y[i]);
  CHECK_THROWS_WITH(mvm.run(x.data(), 2, y.data(), kMaxAccess - 1), Catch::Contains("at most 2^48"));
}

TEST_CASE("a convolution counts its output positions over all images", "[read]") {
  Hardware hw = reading({"proportional", 0.0, std::nullopt, 0.1});
  hw.adc = {6, AdcRange::kFullScale, AdcPlacement::kPerColumn};
  Random random(8);
  Conv2dGeometry g;
  g.in_channels = 4;
  g.out_channels = 6;
  g.kernel_h = g.kernel_w = 2;
  g.groups = 2;
  const auto w = random_weights(random, 6 * 2 * 4, 8);
  const auto x = random_activations(random, 3 * 4 * 5 * 5, 8, false);
  const MvmOptions options;
  std::vector<float> expected(3 * 6 * 16);
  std::vector<float> got(expected.size());
  crossbar_conv2d_reference({hw, w.data(), g, options}, x.data(), 3, 5, 5, expected.data(), 7);
  on_every_isa([&] {
    const cpu::CrossbarConv2d conv({hw, w.data(), g, options});
    conv.run(x.data(), 3, 5, 5, got.data(), 7);
    CHECK(got == expected);
    std::fill(got.begin(), got.end(), 0.0F);
    conv.run(x.data(), 1, 5, 5, got.data(), 7);
    conv.run(x.data() + 100, 2, 5, 5, got.data() + 96, 7 + 16);
    CHECK(got == expected);
    std::fill(got.begin(), got.end(), 0.0F);
    for (std::int64_t row = 0; row < 12; row += 5) {
      conv.run_rows(x.data(), 5, 5, row, std::min<std::int64_t>(12, row + 5), got.data(), 7);
    }
    CHECK(got == expected);
  });
}

TEST_CASE("read noise that 32 bits cannot hold is refused by name", "[read][errors]") {
  const std::vector<std::int8_t> w(64, 1);
  MvmOptions options;
  Hardware hw = reading({"proportional", 0.0, std::nullopt, 0.1});
  hw.dac_bits = 8;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 1, 64, options), Catch::Contains("input digits up to 181, got 255"));
  hw.dac_bits = 7;
  hw.rows = 16384;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 1, 16384, options), Catch::Contains("cannot tell the levels apart"));
  hw = reading({"constant", 0.1});
  hw.rows = 16384;
  CHECK_THROWS_WITH(make_mvm_plan(hw, 1, 16384, options), Catch::Contains("the digits of a tile must add up to int32"));
}

}  // namespace cimq::kernels::testing
