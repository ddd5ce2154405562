#include "kernels/normalization.h"

#include <cmath>

#include "common/error.h"

namespace cimq::kernels::cpu {
namespace {

struct Moments {
  double mean, inverse_deviation;
};

Moments moments(const float* x, std::int64_t n, double eps) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(n);
  double squares = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double difference = static_cast<double>(x[i]) - mean;
    squares += difference * difference;
  }
  const double variance = squares / static_cast<double>(n);
  return {mean, 1.0 / std::sqrt(variance + eps)};  // IEEE defines the square root to the bit
}

float normalised(float x, const Moments& m, double weight, double bias) {
  const double unit = (static_cast<double>(x) - m.mean) * m.inverse_deviation;
  const double scaled = unit * weight;
  return static_cast<float>(scaled + bias);
}

double value_or(const float* values, std::int64_t at, double otherwise) {
  return values == nullptr ? otherwise : static_cast<double>(values[at]);
}

}  // namespace

void layer_norm(const float* x, std::int64_t rows, std::int64_t n, const float* weight, const float* bias, double eps,
                float* y) {
  check(rows >= 0 && n >= 1, "layer_norm: needs at least one value to normalise, got [", rows, ", ", n, "]");
  for (std::int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const Moments m = moments(x, n, eps);
    for (std::int64_t i = 0; i < n; ++i) y[i] = normalised(x[i], m, value_or(weight, i, 1.0), value_or(bias, i, 0.0));
  }
}

void group_norm(const float* x, std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups,
                const float* weight, const float* bias, double eps, float* y) {
  check(groups >= 1 && channels >= 1 && channels % groups == 0, "group_norm: groups must divide the channels, got ",
        groups, " and ", channels);
  check(batch >= 0 && inner >= 1, "group_norm: needs at least one value per channel, got [", batch, ", ", channels,
        ", ", inner, "]");
  const std::int64_t size = channels / groups;
  for (std::int64_t part = 0; part < batch * groups; ++part) {
    const Moments m = moments(x, size * inner, eps);
    const std::int64_t first = part % groups * size;
    for (std::int64_t c = first; c < first + size; ++c) {
      const double scale = value_or(weight, c, 1.0);
      const double shift = value_or(bias, c, 0.0);
      for (std::int64_t i = 0; i < inner; ++i) *y++ = normalised(*x++, m, scale, shift);
    }
  }
}

}  // namespace cimq::kernels::cpu
