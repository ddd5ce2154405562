#include "kernels/normalization.h"

#include "kernels/formula/normalization.h"

namespace cimq::kernels::cpu {
namespace {

Moments moments(const float* x, std::int64_t n, double eps) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(n);
  double squares = 0.0;
  for (std::int64_t i = 0; i < n; ++i) squares += squared_difference(x[i], mean);
  return {mean, inverse_deviation(squares / static_cast<double>(n), eps)};
}

}  // namespace

void layer_norm(const float* x, std::int64_t rows, std::int64_t n, const float* weight, const float* bias, double eps,
                float* y) {
  check_layer_norm(rows, n);
  for (std::int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const Moments m = moments(x, n, eps);
    for (std::int64_t i = 0; i < n; ++i) y[i] = normalised(x[i], m, value_or(weight, i, 1.0), value_or(bias, i, 0.0));
  }
}

void group_norm(const float* x, std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups,
                const float* weight, const float* bias, double eps, float* y) {
  check_group_norm(batch, channels, inner, groups);
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
