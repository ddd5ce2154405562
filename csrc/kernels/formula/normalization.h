// The formulas of layer and group normalisation, shared by host and device: float64, each operation rounded once
// (kernels/normalization.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace cimq::kernels {

/// Of values that are normalised together.
struct Moments {
  double mean, inverse_deviation;
};

/// What one value adds to the sum of squares.
CIMQ_HOST_DEVICE inline double squared_difference(float x, double mean) {
  const double difference = static_cast<double>(x) - mean;
  return difference * difference;
}

/// 1 / sqrt(variance + eps); IEEE defines the square root to the bit.
CIMQ_HOST_DEVICE inline double inverse_deviation(double variance, double eps) {
#if defined(__CUDA_ARCH__)
  return 1.0 / sqrt(variance + eps);
#else
  return 1.0 / std::sqrt(variance + eps);
#endif
}

CIMQ_HOST_DEVICE inline float normalised(float x, const Moments& m, double weight, double bias) {
  const double unit = (static_cast<double>(x) - m.mean) * m.inverse_deviation;
  const double scaled = unit * weight;
  return static_cast<float>(scaled + bias);
}

/// The parameter of a value; `otherwise` where there are none.
CIMQ_HOST_DEVICE inline double value_or(const float* values, std::int64_t at, double otherwise) {
  return values == nullptr ? otherwise : static_cast<double>(values[at]);
}

}  // namespace cimq::kernels
