// What fewer bits cost, learned from whole policies: a Bayesian linear model whose prior is the measured sensitivities.
// A policy is a few features with values (say, "layer 3 has 4-bit weights": what that was measured to cost alone); its
// damage is the sum of value times coefficient, each coefficient a Gaussian with a mean and a deviation of its own,
// observed with an error. The posterior is exact (Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT
// Press 2006, section 2.1), draws of it are by Matheron's rule (Wilson et al., ICML 2020, arXiv 2002.09309). Features
// come in groups whose deviations can be scaled together, and the evidence tells which scales fit (ibid., section 5.4).
// Plain double arithmetic; only the evidence needs libm.
#pragma once

#include <cstdint>
#include <vector>

namespace cimq::agent {

struct Feature {
  std::int64_t index = 0;
  double value = 0;
};
using Features = std::vector<Feature>;  ///< those of a policy; all others are 0

class DamageModel {
 public:
  /// `group` numbers the group of every feature from 0 on; empty: all are in group 0.
  /// Throws Error for no features, lengths that differ, numbers that are not finite, or a negative deviation or group.
  DamageModel(std::vector<double> mean, std::vector<double> deviation, std::vector<std::int64_t> group = {});

  /// One measured policy, with the standard deviation of its measurement (more than 0).
  /// Throws Error, changing nothing, for an unknown feature, one named twice, or numbers that are not finite.
  void observe(const Features& features, double damage, double deviation);

  /// Sets what the deviations of every group are multiplied with (1 at first).
  /// Throws Error, changing nothing, for another number of scales than groups, or one that is negative or not finite.
  void set_scales(const std::vector<double>& scales);
  const std::vector<double>& scales() const { return scales_; }
  /// Logarithm of the probability density of all that was observed, under such scales.
  double log_evidence(const std::vector<double>& scales) const;

  /// Posterior mean of every coefficient; the prior's before the first observation.
  std::vector<double> mean() const;
  /// A draw of all coefficients from the posterior whose deviations are `temperature` times the true ones: 0 is the
  /// mean. A function of (seed, number) and the observations alone.
  std::vector<double> draw(std::uint64_t seed, std::int64_t number, double temperature) const;

  std::int64_t features() const { return static_cast<std::int64_t>(prior_mean_.size()); }
  std::int64_t observations() const { return static_cast<std::int64_t>(rows_.size()); }

 private:
  struct Row {
    Features features;     ///< in the order of their indices
    double residual = 0;   ///< measured damage minus the prior's
    double deviation = 0;  ///< of the measurement
    /// [group * (row + 1) + other]: what this row and each before it (and itself) share, with the unscaled variances.
    std::vector<double> shared;
  };
  using Factor = std::vector<std::vector<double>>;  ///< lower triangle, one row per observation

  void check_features(const Features& features) const;
  void check_scales(const std::vector<double>& scales) const;
  /// Appends the row of the Cholesky factor of K = F S^2 F^T + diag(deviation^2) that belongs to observation `row`.
  void extend(Factor& factor, std::size_t row, const std::vector<double>& scales) const;
  /// Solves K x = b.
  std::vector<double> solved(std::vector<double> b) const;
  /// values + S^2 F^T x
  std::vector<double> moved(std::vector<double> values, const std::vector<double>& x) const;
  double variance(std::size_t feature) const;

  std::vector<double> prior_mean_;
  std::vector<double> variance_;  ///< of the prior, before scaling
  std::vector<std::int64_t> group_;
  std::vector<double> scales_;
  std::vector<Row> rows_;
  Factor factor_;
};

}  // namespace cimq::agent
