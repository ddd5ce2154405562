// Layer and group normalisation of float32 values, with one definition for evaluation, conversion and the executor.
//
// Of the n values that are normalised together, in float64 and in ascending order:
//     mean = (sum of x) / n        var = (sum of (x - mean)^2) / n        r = 1 / sqrt(var + eps)
//     y    = ((x - mean) * r) * weight + bias                             rounded to float32 once
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace cimq::kernels {

/// Throw cimq::Error for shapes that are none.
void check_layer_norm(std::int64_t rows, std::int64_t n);
void check_group_norm(std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups);

namespace cpu {

/// x, y: [rows, n]; weight, bias: [n] or null. Rows are normalised one by one.
void layer_norm(const float* x, std::int64_t rows, std::int64_t n, const float* weight, const float* bias, double eps,
                float* y);

/// x, y: [batch, channels, inner]; weight, bias: [channels] or null. The channels / groups * inner values of a group
/// are normalised together. `groups` divides `channels`.
void group_norm(const float* x, std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups,
                const float* weight, const float* bias, double eps, float* y);

}  // namespace cpu

// The same bits on the device that is current; x and y are different arrays, and calls return before
// the work is done. Also throw LaunchError.
namespace cuda {

void layer_norm(const float* x, std::int64_t rows, std::int64_t n, const float* weight, const float* bias, double eps,
                float* y, Stream stream);

void group_norm(const float* x, std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups,
                const float* weight, const float* bias, double eps, float* y, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
