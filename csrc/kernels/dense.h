// Layers left in float32: double accumulation in a fixed order and one rounding to float32, so that Python and the
// executor give the same bits on every machine.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/plan/conv2d_geometry.h"

namespace cimq::kernels {

/// Throw cimq::Error for impossible sizes.
void check_linear_f32(std::int64_t batch, std::int64_t inputs, std::int64_t outputs);
void check_conv2d_f32(const Conv2dGeometry& geometry, std::int64_t batch, std::int64_t h, std::int64_t width);

namespace cpu {

/// y[b, o] = float32(sum over k ascending of x[b, k] * w[o, k], in double, + bias[o]). bias may be null.
void linear_f32(const float* x, const float* w, const float* bias, std::int64_t batch, std::int64_t inputs,
                std::int64_t outputs, float* y);

/// y[b, i, j] = float32(sum over k ascending of a[b, i, k] * c[b, k, j], in double). Throws Error unless batch >= 0 and
/// the other sizes >= 1.
void matmul_f32(const float* a, const float* c, std::int64_t batch, std::int64_t rows, std::int64_t inner,
                std::int64_t columns, float* y);

/// x [batch, in_channels, h, width], w OIHW, y [batch, out_channels, out_h, out_w]; the sum runs over channel, kernel
/// row, kernel column, ascending, in double, then bias (may be null), then one rounding to float32.
void conv2d_f32(const float* x, const float* w, const float* bias, const Conv2dGeometry& geometry, std::int64_t batch,
                std::int64_t h, std::int64_t width, float* y);

}  // namespace cpu

// The same bits on the device that is current; calls return before the work is done. Also throw LaunchError.
namespace cuda {

void linear_f32(const float* x, const float* w, const float* bias, std::int64_t batch, std::int64_t inputs,
                std::int64_t outputs, float* y, Stream stream);

void conv2d_f32(const float* x, const float* w, const float* bias, const Conv2dGeometry& geometry, std::int64_t batch,
                std::int64_t h, std::int64_t width, float* y, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
