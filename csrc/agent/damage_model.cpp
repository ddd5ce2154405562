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

double summed(const Features& features, const std::vector<double>& coefficients) {
  double sum = 0;
  for (const auto& [index, value] : features) sum += value * coefficients[static_cast<std::size_t>(index)];
  return sum;
}

}  // namespace

DamageModel::DamageModel(std::vector<double> mean, std::vector<double> deviation, std::vector<std::int64_t> group)
    : prior_mean_(std::move(mean)), variance_(std::move(deviation)), group_(std::move(group)) {
  check(!prior_mean_.empty(), "DamageModel: there must be at least one feature");
  check(prior_mean_.size() == variance_.size(), "DamageModel: mean and deviation must have the same length, got ",
        prior_mean_.size(), " and ", variance_.size());
  if (group_.empty()) group_.assign(prior_mean_.size(), 0);
  check(prior_mean_.size() == group_.size(), "DamageModel: mean and group must have the same length, got ",
        prior_mean_.size(), " and ", group_.size());
  std::int64_t last = 0;
  for (std::size_t i = 0; i < variance_.size(); ++i) {
    check(std::isfinite(prior_mean_[i]), "DamageModel: mean[", i, "] must be finite, got ", prior_mean_[i]);
    check(std::isfinite(variance_[i]) && variance_[i] >= 0, "DamageModel: deviation[", i,
          "] must be finite and not negative, got ", variance_[i]);
    check(group_[i] >= 0 && group_[i] < features(), "DamageModel: group[", i, "] must be one of 0..", features() - 1,
          ", got ", group_[i]);
    last = std::max(last, group_[i]);
    variance_[i] *= variance_[i];
  }
  scales_.assign(static_cast<std::size_t>(last) + 1, 1.0);
}

double DamageModel::variance(std::size_t feature) const {
  const double scale = scales_[static_cast<std::size_t>(group_[feature])];
  return scale * scale * variance_[feature];
}

void DamageModel::check_features(const Features& features) const {
  for (std::size_t i = 0; i < features.size(); ++i) {
    const auto& [index, value] = features[i];
    check(index >= 0 && index < this->features(), "DamageModel: a feature must be one of 0..", this->features() - 1,
          ", got ", index);
    check(std::isfinite(value), "DamageModel: the value of feature ", index, " must be finite, got ", value);
    check(i == 0 || index != features[i - 1].index, "DamageModel: feature ", index, " is named twice");
  }
}

void DamageModel::check_scales(const std::vector<double>& scales) const {
  check(scales.size() == scales_.size(), "DamageModel: there must be one scale for each of the ", scales_.size(),
        " groups, got ", scales.size());
  for (const double scale : scales)
    check(std::isfinite(scale) && scale >= 0, "DamageModel: scales must be finite and not negative, got ", scale);
}

void DamageModel::observe(const Features& features, double damage, double deviation) {
  Row row{features, 0, deviation, {}};
  std::sort(row.features.begin(), row.features.end(),
            [](const Feature& a, const Feature& b) { return a.index < b.index; });
  check_features(row.features);
  check(std::isfinite(damage), "DamageModel: damage must be finite, got ", damage);
  check(std::isfinite(deviation) && deviation > 0, "DamageModel: deviation must be more than 0, got ", deviation);
  row.residual = damage - summed(row.features, prior_mean_);
  std::vector<double> weighted(prior_mean_.size(), 0.0);
  for (const auto& [index, value] : row.features) {
    const auto f = static_cast<std::size_t>(index);
    weighted[f] = value * variance_[f];
  }
  const std::size_t length = rows_.size() + 1;
  row.shared.assign(scales_.size() * length, 0.0);
  for (std::size_t other = 0; other < length; ++other) {
    for (const auto& [index, value] : (other < rows_.size() ? rows_[other] : row).features) {
      const auto f = static_cast<std::size_t>(index);
      row.shared[static_cast<std::size_t>(group_[f]) * length + other] += value * weighted[f];
    }
  }
  rows_.push_back(std::move(row));
  extend(factor_, rows_.size() - 1, scales_);
}

void DamageModel::extend(Factor& factor, std::size_t row, const std::vector<double>& scales) const {
  const Row& added = rows_[row];
  const auto element = [&](std::size_t other) {
    double sum = 0;
    for (std::size_t g = 0; g < scales.size(); ++g) sum += scales[g] * scales[g] * added.shared[g * (row + 1) + other];
    return sum;
  };
  // The factor of the larger matrix is that of the smaller one and a row.
  std::vector<double> next;
  next.reserve(row + 1);
  double diagonal = element(row) + added.deviation * added.deviation;
  for (std::size_t i = 0; i < row; ++i) {
    double value = element(i);
    for (std::size_t k = 0; k < i; ++k) value -= next[k] * factor[i][k];
    next.push_back(value / factor[i][i]);
    diagonal -= next.back() * next.back();
  }
  // Rounding may take what little a repeated policy adds below its measurement error.
  next.push_back(std::sqrt(std::max(diagonal, added.deviation * added.deviation * 1e-6)));
  factor.push_back(std::move(next));
}

void DamageModel::set_scales(const std::vector<double>& scales) {
  check_scales(scales);
  if (scales == scales_) return;
  scales_ = scales;
  factor_.clear();
  for (std::size_t row = 0; row < rows_.size(); ++row) extend(factor_, row, scales_);
}

double DamageModel::log_evidence(const std::vector<double>& scales) const {
  check_scales(scales);
  constexpr double kHalfLogTwoPi = 0.91893853320467274;
  Factor factor;
  std::vector<double> whitened;  // solves L z = residuals
  double sum = 0;
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    extend(factor, row, scales);
    double value = rows_[row].residual;
    for (std::size_t k = 0; k < row; ++k) value -= factor[row][k] * whitened[k];
    whitened.push_back(value / factor[row][row]);
    sum -= 0.5 * whitened[row] * whitened[row] + std::log(factor[row][row]) + kHalfLogTwoPi;
  }
  return sum;
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
    for (const auto& [index, value] : rows_[i].features) {
      const auto f = static_cast<std::size_t>(index);
      values[f] += variance(f) * value * x[i];
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
    prior[f] = std::sqrt(variance(f)) * normal_draw(seed, number, static_cast<std::uint32_t>(f), false);
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
