#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "agent/damage_model.h"
#include "common/error.h"

using cimq::agent::DamageModel;
using cimq::agent::Features;

namespace {

/// Solves a small dense system by Gauss-Jordan elimination with pivots.
std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t pivot = i;
    for (std::size_t r = i; r < n; ++r) {
      if (std::abs(a[r][i]) > std::abs(a[pivot][i])) pivot = r;
    }
    std::swap(a[i], a[pivot]);
    std::swap(b[i], b[pivot]);
    for (std::size_t r = 0; r < n; ++r) {
      if (r == i) continue;
      const double factor = a[r][i] / a[i][i];
      for (std::size_t c = i; c < n; ++c) a[r][c] -= factor * a[i][c];
      b[r] -= factor * b[i];
    }
  }
  for (std::size_t i = 0; i < n; ++i) b[i] /= a[i][i];
  return b;
}

}  // namespace

TEST_CASE("the posterior mean is the solution of the normal equations") {
  // (S^-2 + F^T D^-2 F) theta = S^-2 m + F^T D^-2 y, in the primal form; the model computes the dual.
  std::mt19937 numbers(GENERATE(1U, 2U, 3U));
  std::uniform_real_distribution<double> uniform(0.1, 2.0);
  constexpr std::size_t kFeatures = 7;
  std::vector<double> mean;
  std::vector<double> deviation;
  for (std::size_t f = 0; f < kFeatures; ++f) {
    mean.push_back(uniform(numbers));
    deviation.push_back(uniform(numbers));
  }
  DamageModel model(mean, deviation);
  std::vector<std::vector<double>> a(kFeatures, std::vector<double>(kFeatures, 0.0));
  std::vector<double> b(kFeatures);
  for (std::size_t f = 0; f < kFeatures; ++f) {
    a[f][f] = 1 / (deviation[f] * deviation[f]);
    b[f] = mean[f] / (deviation[f] * deviation[f]);
  }
  for (int observation = 0; observation < 20; ++observation) {
    Features features;
    for (std::size_t f = 0; f < kFeatures; ++f) {
      if (uniform(numbers) < 1.0) features.push_back({static_cast<std::int64_t>(f), uniform(numbers)});
    }
    const double damage = 3 * uniform(numbers);
    const double error = uniform(numbers);
    model.observe(features, damage, error);
    for (const auto& [i, x] : features) {
      b[static_cast<std::size_t>(i)] += x * damage / (error * error);
      for (const auto& [k, z] : features)
        a[static_cast<std::size_t>(i)][static_cast<std::size_t>(k)] += x * z / (error * error);
    }
    const std::vector<double> wanted = solve(a, b);
    const std::vector<double> got = model.mean();
    for (std::size_t f = 0; f < kFeatures; ++f) CHECK(got[f] == Approx(wanted[f]).epsilon(1e-9).margin(1e-9));
  }
}

TEST_CASE("draws have the moments of the posterior, and repeat") {
  DamageModel model({1.0, 2.0}, {0.5, 1.0});
  model.observe({{0, 1.0}, {1, 1.0}}, 4.0, 0.5);
  // K = 0.25 + 1 + 0.25 = 1.5; mean = prior + S^2 (4 - 3) / K; covariance = S^2 - S^2 1 1^T S^2 / K
  const std::vector<double> mean = model.mean();
  CHECK(mean[0] == Approx(1.0 + 0.25 / 1.5));
  CHECK(mean[1] == Approx(2.0 + 1.0 / 1.5));
  constexpr int kDraws = 20000;
  double sum0 = 0;
  double square0 = 0;
  double product = 0;
  for (int number = 0; number < kDraws; ++number) {
    const std::vector<double> draw = model.draw(7, number, 1.0);
    const double d0 = draw[0] - mean[0];
    const double d1 = draw[1] - mean[1];
    sum0 += d0;
    square0 += d0 * d0;
    product += d0 * d1;
  }
  CHECK(std::abs(sum0 / kDraws) < 0.02);
  CHECK(square0 / kDraws == Approx(0.25 - 0.25 * 0.25 / 1.5).epsilon(0.05));
  CHECK(product / kDraws == Approx(-0.25 * 1.0 / 1.5).epsilon(0.08));
  CHECK(model.draw(7, 3, 1.0) == model.draw(7, 3, 1.0));
  CHECK(model.draw(7, 3, 1.0) != model.draw(7, 4, 1.0));
  CHECK(model.draw(7, 3, 1.0) != model.draw(8, 3, 1.0));
  CHECK(model.draw(7, 3, 0.0) == mean);
}

TEST_CASE("a repeated policy is learned, and nothing breaks") {
  DamageModel model({1.0, 1.0, 1.0}, {1.0, 1.0, 0.0});
  for (int i = 0; i < 50; ++i) model.observe({{0, 1.0}, {2, 1.0}}, 3.0, 1e-6);
  CHECK(model.mean()[0] == Approx(2.0));
  CHECK(model.mean()[1] == 1.0);
  CHECK(model.mean()[2] == 1.0);
  CHECK(model.observations() == 50);
}

TEST_CASE("scaled groups are a model with those deviations") {
  const std::vector<Features> policies = {{{0, 1.0}, {1, 2.0}}, {{1, 0.5}, {2, 1.5}}, {{0, 1.0}, {2, 1.0}}};
  DamageModel scaled({1.0, 2.0, 3.0}, {0.5, 1.0, 2.0}, {0, 1, 1});
  DamageModel direct({1.0, 2.0, 3.0}, {1.0, 0.3, 0.6});
  double damage = 2;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    scaled.observe(policies[i], damage, 0.3);
    if (i == 1) scaled.set_scales({2.0, 0.3});  // in the middle: what was observed before is weighed anew
    direct.observe(policies[i], damage, 0.3);
    damage += 1.5;
  }
  for (std::size_t f = 0; f < 3; ++f) CHECK(scaled.mean()[f] == Approx(direct.mean()[f]).epsilon(1e-12));
  CHECK(scaled.log_evidence({2.0, 0.3}) == Approx(direct.log_evidence({1.0})).epsilon(1e-12));
  CHECK(scaled.log_evidence({1.0, 1.0}) != Approx(direct.log_evidence({1.0})));
  CHECK(scaled.scales() == std::vector<double>{2.0, 0.3});
}

TEST_CASE("the evidence is the density of what was observed") {
  DamageModel model({1.0}, {2.0});
  CHECK(model.log_evidence({1.0}) == 0.0);
  model.observe({{0, 3.0}}, 7.0, 0.5);
  // Normal around 3 with variance 9 * 4 + 0.25.
  const double variance = 36.25;
  CHECK(model.log_evidence({1.0}) == Approx(-0.5 * 16 / variance - 0.5 * std::log(2 * 3.14159265358979 * variance)));
}

TEST_CASE("a damage model refuses what is none, and is not changed") {
  CHECK_THROWS_AS(DamageModel({}, {}), cimq::Error);
  CHECK_THROWS_AS(DamageModel({1.0}, {1.0, 2.0}), cimq::Error);
  CHECK_THROWS_AS(DamageModel({1.0}, {-1.0}), cimq::Error);
  CHECK_THROWS_AS(DamageModel({std::nan("")}, {1.0}), cimq::Error);
  DamageModel model({1.0, 1.0}, {1.0, 1.0});
  CHECK_THROWS_AS(model.observe({{2, 1.0}}, 1.0, 1.0), cimq::Error);
  CHECK_THROWS_AS(model.observe({{-1, 1.0}}, 1.0, 1.0), cimq::Error);
  CHECK_THROWS_AS(model.observe({{1, 1.0}, {1, 2.0}}, 1.0, 1.0), cimq::Error);
  CHECK_THROWS_AS(model.observe({{1, 1.0}}, std::nan(""), 1.0), cimq::Error);
  CHECK_THROWS_AS(model.observe({{1, std::nan("")}}, 1.0, 1.0), cimq::Error);
  CHECK_THROWS_AS(model.observe({{1, 1.0}}, 1.0, 0.0), cimq::Error);
  CHECK_THROWS_AS(DamageModel({1.0}, {1.0}, {0, 0}), cimq::Error);
  CHECK_THROWS_AS(DamageModel({1.0}, {1.0}, {-1}), cimq::Error);
  CHECK_THROWS_AS(DamageModel({1.0}, {1.0}, {1}), cimq::Error);
  CHECK_THROWS_AS(model.set_scales({1.0, 1.0}), cimq::Error);
  CHECK_THROWS_AS(model.set_scales({-1.0}), cimq::Error);
  CHECK_THROWS_AS(model.log_evidence({std::nan("")}), cimq::Error);
  CHECK_THROWS_AS(model.draw(0, 0, -1.0), cimq::Error);
  CHECK(model.observations() == 0);
  CHECK(model.mean() == std::vector<double>{1.0, 1.0});
}
