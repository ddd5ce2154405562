#include "agent/damage_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/error.h"
#include "common/philox.h"

namespace cimq::agent {
namespace {

// Keep these draws apart from those that other users of Philox make with the same seed ("damg").
constexpr std::uint32_t kPhiloxStream = 0x64616d67U;
// Uniforms in a draw: their sum has variance 1 and no need of libm (Irwin-Hall).
constexpr std::uint32_t kUniforms = 12;

/// Nearly standard normal, a function of its arguments alone.
double normal_draw(std::uint64_t seed, std::int64_t number, std::uint32_t element, bool of_measurement) {
  double sum = 0;
  for (std::uint32_t part = 0; part < kUniforms / 4; ++part) {
    const auto n = static_cast<std::uint64_t>(number);
    const std::uint32_t which = part * 2 + (of_measurement ? 1U : 0U);
    const PhiloxCounter counter{
        {static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(n >> 32) ^ (which << 24), element, kPhiloxStream}};
    for (const std::uint32_t word : philox4x32(counter, philox_key(seed)).word) {
      sum += (static_cast<double>(word) + 0.5) * 0x1p-32;
    }
  }
  return sum - kUniforms / 2.0;
}

/// Features that two policies share, weighted.
double shared(const Features& a, const Features& b, const std::vector<double>& weights) {
  double sum = 0;
  for (const std::int64_t feature : a) {
    if (std::binary_search(b.begin(), b.end(), feature)) sum += weights[static_cast<std::size_t>(feature)];
  }
  return sum;
}

double summed(const Features& features, const std::vector<double>& values) {
  double sum = 0;
  for (const std::int64_t feature : features) sum += values[static_cast<std::size_t>(feature)];
  return sum;
}

}  // namespace

DamageModel::DamageModel(std::vector<double> mean, std::vector<double> deviation)
    : prior_mean_(std::move(mean)), variance_(std::move(deviation)) {
  check(!prior_mean_.empty(), "DamageModel: there must be at least one feature");
  check(prior_mean_.size() == variance_.size(), "DamageModel: mean and deviation must have the same length, got ",
        prior_mean_.size(), " and ", variance_.size());
  for (std::size_t i = 0; i < variance_.size(); ++i) {
    check(std::isfinite(prior_mean_[i]), "DamageModel: mean[", i, "] must be finite, got ", prior_mean_[i]);
    check(std::isfinite(variance_[i]) && variance_[i] >= 0, "DamageModel: deviation[", i,
          "] must be finite and not negative, got ", variance_[i]);
    variance_[i] *= variance_[i];
  }
}

void DamageModel::check_features(const Features& features) const {
  for (std::size_t i = 0; i < features.size(); ++i) {
    check(features[i] >= 0 && features[i] < this->features(), "DamageModel: a feature must be one of 0..",
          this->features() - 1, ", got ", features[i]);
    check(i == 0 || features[i] != features[i - 1], "DamageModel: feature ", features[i], " is named twice");
  }
}

void DamageModel::observe(const Features& features, double damage, double deviation) {
  Row row{features, 0, deviation};
  std::sort(row.features.begin(), row.features.end());
  check_features(row.features);
  check(std::isfinite(damage), "DamageModel: damage must be finite, got ", damage);
  check(std::isfinite(deviation) && deviation > 0, "DamageModel: deviation must be more than 0, got ", deviation);
  row.residual = damage - summed(row.features, prior_mean_);
  // The factor of the larger matrix is that of the smaller one and a row.
  std::vector<double> factor;
  factor.reserve(rows_.size() + 1);
  double diagonal = summed(row.features, variance_) + deviation * deviation;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    double value = shared(row.features, rows_[i].features, variance_);
    for (std::size_t k = 0; k < i; ++k) value -= factor[k] * factor_[i][k];
    factor.push_back(value / factor_[i][i]);
    diagonal -= factor.back() * factor.back();
  }
  // Rounding may take what little a repeated policy adds below its measurement error.
  factor.push_back(std::sqrt(std::max(diagonal, deviation * deviation * 1e-6)));
  factor_.push_back(std::move(factor));
  rows_.push_back(std::move(row));
}

std::vector<double> DamageModel::solved(std::vector<double> b) const {
  for (std::size_t i = 0; i < b.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= factor_[i][k] * b[k];
    b[i] /= factor_[i][i];
  }
  for (std::size_t i = b.size(); i-- > 0;) {
    for (std::size_t k = i + 1; k < b.size(); ++k) b[i] -= factor_[k][i] * b[k];
    b[i] /= factor_[i][i];
  }
  return b;
}

std::vector<double> DamageModel::moved(std::vector<double> values, const std::vector<double>& x) const {
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    for (const std::int64_t feature : rows_[i].features) {
      const auto f = static_cast<std::size_t>(feature);
      values[f] += variance_[f] * x[i];
    }
  }
  return values;
}

std::vector<double> DamageModel::mean() const {
  std::vector<double> residuals;
  residuals.reserve(rows_.size());
  for (const Row& row : rows_) residuals.push_back(row.residual);
  return moved(prior_mean_, solved(std::move(residuals)));
}

std::vector<double> DamageModel::draw(std::uint64_t seed, std::int64_t number, double temperature) const {
  check(std::isfinite(temperature) && temperature >= 0,
        "DamageModel: temperature must be finite and not negative, got ", temperature);
  std::vector<double> values = mean();
  if (temperature == 0) return values;
  // A draw of the prior, corrected by what the observations say of it.
  std::vector<double> prior(variance_.size());
  for (std::size_t f = 0; f < prior.size(); ++f) {
    prior[f] = std::sqrt(variance_[f]) * normal_draw(seed, number, static_cast<std::uint32_t>(f), false);
  }
  std::vector<double> missing(rows_.size());
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    missing[i] = -summed(rows_[i].features, prior) -
                 rows_[i].deviation * normal_draw(seed, number, static_cast<std::uint32_t>(i), true);
  }
  const std::vector<double> deviation = moved(std::move(prior), solved(std::move(missing)));
  for (std::size_t f = 0; f < values.size(); ++f) values[f] += temperature * deviation[f];
  return values;
}

}  // namespace cimq::agent
