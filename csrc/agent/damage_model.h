// What fewer bits cost, learned from whole policies: a Bayesian linear model whose prior is the measured sensitivities.
// A policy is a set of features (say, "layer 3 has 4-bit weights"); its damage is the sum of theirs, each a Gaussian
// with a mean and a deviation of its own, observed with an error. The posterior is exact (Rasmussen and Williams,
// Gaussian Processes for Machine Learning, MIT Press 2006, section 2.1), draws of it are by Matheron's rule (Wilson et
// al., ICML 2020, arXiv 2002.09309). Plain double arithmetic without libm: the same bits on every machine.
#pragma once

#include <cstdint>
#include <vector>

namespace cimq::agent {

using Features = std::vector<std::int64_t>;  ///< indices of the features that a policy has

class DamageModel {
 public:
  /// Throws Error for no features, lengths that differ, numbers that are not finite, or a negative deviation.
  DamageModel(std::vector<double> mean, std::vector<double> deviation);

  /// One measured policy, with the standard deviation of its measurement (more than 0).
  /// Throws Error, changing nothing, for an unknown feature, one named twice, or numbers that are not finite.
  void observe(const Features& features, double damage, double deviation);

  /// Posterior mean of every feature; the prior's before the first observation.
  std::vector<double> mean() const;
  /// A draw of all features from the posterior whose deviations are `temperature` times the true ones: 0 is the mean.
  /// A function of (seed, number) and the observations alone.
  std::vector<double> draw(std::uint64_t seed, std::int64_t number, double temperature) const;

  std::int64_t features() const { return static_cast<std::int64_t>(prior_mean_.size()); }
  std::int64_t observations() const { return static_cast<std::int64_t>(rows_.size()); }

 private:
  struct Row {
    Features features;
    double residual = 0;   ///< measured damage minus the prior's
    double deviation = 0;  ///< of the measurement
  };

  void check_features(const Features& features) const;
  /// Solves K x = b with the factor of K = F S^2 F^T + diag(deviation^2).
  std::vector<double> solved(std::vector<double> b) const;
  /// values + S^2 F^T x
  std::vector<double> moved(std::vector<double> values, const std::vector<double>& x) const;

  std::vector<double> prior_mean_;
  std::vector<double> variance_;  ///< of the prior
  std::vector<Row> rows_;
  std::vector<std::vector<double>> factor_;  ///< lower Cholesky factor, one row per observation
};

}  // namespace cimq::agent
