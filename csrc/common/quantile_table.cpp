#include "common/quantile_table.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "common/rounding.h"

namespace cimq {
namespace {

/// Horner's rule, highest power first.
template <typename... Rest>
double polynomial(double x, double first, Rest... rest) {
  double value = first;
  ((value = value * x + rest), ...);
  return value;
}

/// v of node `index`: the inverse of quantile_cell for the first v of a cell.
std::uint64_t node_position(int index) {
  constexpr int kSub = 1 << kQuantileSubBits;
  const int shift = index < 2 * kSub ? 0 : index / kSub - 1;
  return static_cast<std::uint64_t>(index - shift * kSub) << shift;
}

std::int32_t to_node(double value) {
  check(!std::isnan(value), "quantile table: the quantile function gave NaN");
  const double limit = kQuantileMaxSample;
  const double scaled = std::clamp(value, -limit, limit) * (1 << kQuantileFractionBits);
  return static_cast<std::int32_t>(round_half_even(scaled));
}

}  // namespace

double inverse_normal_cdf(double p) {
  check(p > 0.0 && p < 1.0, "inverse_normal_cdf: p must lie between 0 and 1, got ", p);
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q *
           polynomial(r, 2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
                      4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
                      1.3314166789178437745e2, 3.3871328727963666080e0) /
           polynomial(r, 5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
                      2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
                      4.2313330701600911252e1, 1.0);
  }
  const double r = std::sqrt(-std::log(q < 0.0 ? p : 1.0 - p));
  double magnitude = 0.0;
  if (r <= 5.0) {
    const double t = r - 1.6;
    magnitude = polynomial(t, 7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                           1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
                           4.63033784615654529590e0, 1.42343711074968357734e0) /
                polynomial(t, 1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
                           1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
                           2.05319162663775882187e0, 1.0);
  } else {
    const double t = r - 5.0;
    magnitude = polynomial(t, 2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                           2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
                           5.46378491116411436990e0, 6.65790464350110377720e0) /
                polynomial(t, 2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
                           7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
                           5.99832206555887937690e-1, 1.0);
  }
  return q < 0.0 ? -magnitude : magnitude;
}

QuantileTable::QuantileTable(const std::function<double(double u, bool upper)>& quantile) {
  nodes_.reserve(2 * kQuantileNodes);
  for (const bool upper : {false, true}) {
    for (int index = 0; index < kQuantileNodes; ++index) {
      const double position = static_cast<double>(node_position(index));
      nodes_.push_back(to_node(quantile(std::min(0.5, std::ldexp(position + 0.5, -32)), upper)));
    }
  }
}

QuantileTable QuantileTable::gaussian(double mean, double sigma) {
  check(std::isfinite(mean) && std::isfinite(sigma) && sigma >= 0.0,
        "gaussian quantile table: mean must be finite and sigma finite and at least 0, got mean ", mean, ", sigma ",
        sigma);
  return QuantileTable([mean, sigma](double u, bool upper) {
    const double z = inverse_normal_cdf(u);  // u is a tail's own probability: mirrored, no 1 - u
    return mean + sigma * (upper ? -z : z);
  });
}

std::int32_t QuantileTable::smallest() const {
  return static_cast<std::int32_t>(*std::min_element(nodes_.begin(), nodes_.end()) >> kQuantileFractionBits);
}

std::int32_t QuantileTable::largest() const {
  return static_cast<std::int32_t>((*std::max_element(nodes_.begin(), nodes_.end()) >> kQuantileFractionBits) + 1);
}

}  // namespace cimq
