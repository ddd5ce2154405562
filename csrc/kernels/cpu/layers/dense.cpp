#include "kernels/dense.h"

#include <algorithm>
#include <vector>

#include "common/error.h"
#include "common/rounding.h"
#include "kernels/formula/dense.h"

namespace cimq::kernels::cpu {
namespace {

/// Outputs summed side by side: independent chains hide the latency of the additions, each keeps its order.
constexpr std::int64_t kLanes = 8;

}  // namespace

void linear_f32(const float* x, const float* w, const float* bias, std::int64_t batch, std::int64_t inputs,
                std::int64_t outputs, float* y) {
  check_linear_f32(batch, inputs, outputs);
  for (std::int64_t b = 0; b < batch; ++b, x += inputs, y += outputs) {
    for (std::int64_t first = 0; first < outputs; first += kLanes) {
      const std::int64_t lanes = std::min(kLanes, outputs - first);
      double sums[kLanes] = {};
      for (std::int64_t k = 0; k < inputs; ++k) {
        const double value = x[k];
        for (std::int64_t j = 0; j < lanes; ++j) sums[j] = plus_product(sums[j], value, w[(first + j) * inputs + k]);
      }
      for (std::int64_t j = 0; j < lanes; ++j) y[first + j] = rounded_sum(sums[j], bias, first + j);
    }
  }
}

void matmul_f32(const float* a, const float* c, std::int64_t batch, std::int64_t rows, std::int64_t inner,
                std::int64_t columns, float* y) {
  check(batch >= 0 && rows >= 1 && inner >= 1 && columns >= 1,
        "matmul_f32: batch must be at least 0, rows, inner and columns at least 1, got ", batch, ", ", rows, ", ",
        inner, ", ", columns);
  for (std::int64_t b = 0; b < batch; ++b, c += inner * columns) {
    for (std::int64_t i = 0; i < rows; ++i, a += inner, y += columns) {
      for (std::int64_t first = 0; first < columns; first += kLanes) {
        const std::int64_t lanes = std::min(kLanes, columns - first);
        double sums[kLanes] = {};
        for (std::int64_t k = 0; k < inner; ++k) {
          const double value = a[k];
          const float* row = c + k * columns + first;
          for (std::int64_t j = 0; j < lanes; ++j) sums[j] = plus_product(sums[j], value, row[j]);
        }
        for (std::int64_t j = 0; j < lanes; ++j) y[first + j] = static_cast<float>(sums[j]);
      }
    }
  }
}

void conv2d_f32(const float* x, const float* w, const float* bias, const Conv2dGeometry& g, std::int64_t batch,
                std::int64_t h, std::int64_t width, float* y) {
  check_conv2d_f32(g, batch, h, width);
  const std::int64_t out_h = g.out_h(h);
  const std::int64_t out_w = g.out_w(width);
  const std::int64_t channels = g.in_channels / g.groups;
  const std::int64_t group_outputs = g.out_channels / g.groups;
  std::vector<double> sums(static_cast<std::size_t>(out_w));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t o = 0; o < g.out_channels; ++o) {
      const float* input = x + (b * g.in_channels + o / group_outputs * channels) * h * width;
      const float* kernel = w + o * channels * g.kernel_h * g.kernel_w;
      for (std::int64_t oy = 0; oy < out_h; ++oy) {
        // A whole output row at once: every element still sums over channel, kernel row, kernel column, ascending.
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::int64_t c = 0; c < channels; ++c) {
          for (std::int64_t ky = 0; ky < g.kernel_h; ++ky) {
            const std::int64_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
            if (iy < 0 || iy >= h) continue;
            const float* row = input + (c * h + iy) * width;
            for (std::int64_t kx = 0; kx < g.kernel_w; ++kx) {
              const double weight = kernel[(c * g.kernel_h + ky) * g.kernel_w + kx];
              // Input column ox * stride + start; the output columns for which it lies inside the image.
              const std::int64_t start = kx * g.dilation_w - g.pad_left;
              const std::int64_t first = start >= 0 ? 0 : ceil_div(-start, g.stride_w);
              const std::int64_t last = start < width ? std::min(out_w, ceil_div(width - start, g.stride_w)) : 0;
              for (std::int64_t ox = first; ox < last; ++ox) {
                double& sum = sums[static_cast<std::size_t>(ox)];
                sum = plus_product(sum, weight, row[ox * g.stride_w + start]);
              }
            }
          }
        }
        for (std::int64_t ox = 0; ox < out_w; ++ox) *y++ = rounded_sum(sums[static_cast<std::size_t>(ox)], bias, o);
      }
    }
  }
}

}  // namespace cimq::kernels::cpu
