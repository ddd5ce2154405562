// Softmax of float32 values along one dimension, with one definition for evaluation, conversion and the executor.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace cimq::kernels {

namespace cpu {

/// x and y are [outer, n, inner] in C order; softmax (or its logarithm) along n. With m the largest value of a line:
///     y[i] = exp(x[i] - m) / sum over j of exp(x[j] - m)
///     y[i] = (x[i] - m) - ln(sum over j of exp(x[j] - m))        logarithm
/// in float64, the sum over j ascending, rounded to float32 once (kernels/formula/float_functions.h). A line with NaN
/// or plus infinity is NaN. x and y may be the same array.
void softmax(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, bool logarithm, float* y);

}  // namespace cpu

namespace cuda {

/// The same bits on the device that is current; x and y are different arrays, and it returns before the work is done.
/// Throws LaunchError.
void softmax(const float* x, std::int64_t outer, std::int64_t n, std::int64_t inner, bool logarithm, float* y,
             Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
