#include "kernels/softmax.h"

#include "kernels/formula/float_functions.h"

namespace cimq::kernels::cpu {
namespace {

/// One line: n values, `step` apart.
void line(const float* x, std::int64_t n, std::int64_t step, bool logarithm, float* y) {
  float largest = x[0];
  for (std::int64_t i = 1; i < n; ++i) {
    const float value = x[i * step];
    largest = value > largest ? value : largest;
  }
  const auto top = static_cast<double>(largest);
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += exp_negative(static_cast<double>(x[i * step]) - top);
  const double log_sum = logarithm ? log_positive(sum) : 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double shifted = static_cast<double>(x[i * step]) - top;
    y[i * step] = static_cast<float>(logarithm ? shifted - log_sum : exp_negative(shifted) / sum);
  }
}

}  // namespace

void softmax(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, bool logarithm, float* y) {
  if (n == 0) return;
  for (std::int64_t o = 0; o < outer; ++o, x += n * inner, y += n * inner) {
    for (std::int64_t i = 0; i < inner; ++i) line(x + i, n, inner, logarithm, y + i);
  }
}

}  // namespace cimq::kernels::cpu
