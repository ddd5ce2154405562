#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "common/error.h"
#include "common/philox.h"
#include "common/quantile_table.h"

namespace {

using cimq::QuantileTable;

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

std::vector<std::int32_t> draw(const QuantileTable& table, std::uint32_t blocks) {
  std::vector<std::int32_t> samples;
  for (std::uint32_t j = 0; j < blocks; ++j) {
    const cimq::PhiloxCounter words = cimq::philox4x32({{j, 0, 0, 0}}, cimq::philox_key(7));
    for (const std::uint32_t word : words.word) samples.push_back(table.sample(word));
  }
  return samples;
}

}  // namespace

TEST_CASE("the inverse normal CDF inverts the CDF into the far tails", "[quantile]") {
  CHECK(cimq::inverse_normal_cdf(0.5) == 0.0);
  CHECK(cimq::inverse_normal_cdf(0.975) == Approx(1.959963984540054).epsilon(1e-15));
  CHECK(cimq::inverse_normal_cdf(1e-3) == Approx(-3.090232306167813).epsilon(1e-15));
  CHECK(cimq::inverse_normal_cdf(1e-20) == Approx(-9.262340089798408).epsilon(1e-15));
  for (double z = -8.0; z < 0.0; z += 0.125) {
    CHECK(cimq::inverse_normal_cdf(normal_cdf(z)) == Approx(z).epsilon(1e-13));
  }
  CHECK_THROWS_AS(cimq::inverse_normal_cdf(0.0), cimq::Error);
  CHECK_THROWS_AS(cimq::inverse_normal_cdf(1.0), cimq::Error);
}

TEST_CASE("every word's sample is the quantile of its probability", "[quantile]") {
  constexpr double kSigma = 20000.0;  // fine enough to see the interpolation
  const QuantileTable table = QuantileTable::gaussian(0.0, kSigma);
  double worst = 0.0;
  for (std::uint64_t r = 0; r < (std::uint64_t{1} << 32); r += 65537) {
    const double exact = cimq::inverse_normal_cdf((static_cast<double>(r) + 0.5) / 4294967296.0) * kSigma;
    worst = std::max(worst, std::abs(table.sample(static_cast<std::uint32_t>(r)) - exact));
  }
  CHECK(worst < 0.0002 * kSigma);
  // The last words of each tail, one by one.
  for (std::uint32_t v = 0; v < 5000; ++v) {
    const double exact = cimq::inverse_normal_cdf((v + 0.5) / 4294967296.0) * kSigma;
    CHECK(std::abs(table.sample(v) - exact) < 0.0002 * kSigma);
    CHECK(std::abs(table.sample(~v) + exact) < 0.0002 * kSigma);
  }
}

TEST_CASE("samples never decrease with the word", "[quantile]") {
  const QuantileTable table = QuantileTable::gaussian(3.0, 100.0);
  std::int32_t last = std::numeric_limits<std::int32_t>::min();
  for (std::uint64_t r = 0; r < (std::uint64_t{1} << 32); r += 99991) {
    const std::int32_t sample = table.sample(static_cast<std::uint32_t>(r));
    REQUIRE(sample >= last);
    last = sample;
  }
}

TEST_CASE("Gaussian samples have the mean, sigma, distribution and tails asked for", "[quantile]") {
  constexpr double kSigma = 3000.0;
  const std::vector<std::int32_t> samples = draw(QuantileTable::gaussian(50.0, kSigma), 1U << 20);
  const auto count = static_cast<double>(samples.size());
  double sum = 0.0;
  double squares = 0.0;
  for (const std::int32_t s : samples) {
    sum += s;
    squares += (s - 50.0) * (s - 50.0);
  }
  CHECK(std::abs(sum / count - 50.0) < 4.0 * kSigma / std::sqrt(count));
  CHECK(std::sqrt(squares / count) == Approx(kSigma).epsilon(4.0 / std::sqrt(2.0 * count)));

  std::vector<std::int32_t> sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  double distance = 0.0;  // Kolmogorov-Smirnov
  for (std::size_t j = 0; j < sorted.size(); ++j) {
    // A sample stands for the half-open unit interval around it.
    const double above = normal_cdf((sorted[j] + 0.5 - 50.0) / kSigma) - static_cast<double>(j) / count;
    const double below = static_cast<double>(j + 1) / count - normal_cdf((sorted[j] - 0.5 - 50.0) / kSigma);
    distance = std::max({distance, above - 1.0 / count, below - 1.0 / count});
  }
  CHECK(distance < 1.63 / std::sqrt(count) + 0.4 / kSigma);  // 1 % level

  for (const double z : {2.0, 3.0, 4.0}) {
    const double expected = normal_cdf(-z) * count;
    const double low = static_cast<double>(
        std::count_if(samples.begin(), samples.end(), [&](std::int32_t s) { return s < 50.0 - z * kSigma; }));
    const double high = static_cast<double>(
        std::count_if(samples.begin(), samples.end(), [&](std::int32_t s) { return s > 50.0 + z * kSigma; }));
    CHECK(std::abs(low - expected) < 4.0 * std::sqrt(expected) + 1.0);
    CHECK(std::abs(high - expected) < 4.0 * std::sqrt(expected) + 1.0);
  }
}

TEST_CASE("a table serves any distribution and saturates", "[quantile]") {
  const QuantileTable exponential(
      [](double u, bool upper) { return 100.0 * (upper ? -std::log(u) : -std::log1p(-u)); });
  double sum = 0.0;
  const std::vector<std::int32_t> samples = draw(exponential, 1U << 16);
  for (const std::int32_t s : samples) sum += s;
  CHECK(sum / static_cast<double>(samples.size()) == Approx(100.0).epsilon(0.01));

  const QuantileTable huge = QuantileTable::gaussian(0.0, 1e9);
  CHECK(huge.sample(0) == -cimq::kQuantileMaxSample);
  CHECK(huge.sample(0xffffffffU) == cimq::kQuantileMaxSample);
  CHECK(huge.smallest() <= huge.sample(0));
  CHECK(huge.largest() >= huge.sample(0xffffffffU));
  CHECK_THROWS_AS(QuantileTable::gaussian(0.0, -1.0), cimq::Error);
  CHECK_THROWS_AS(QuantileTable::gaussian(0.0, std::numeric_limits<double>::quiet_NaN()), cimq::Error);
}
