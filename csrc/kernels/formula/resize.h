// Where a resized image takes its values from, shared by host and device. Float32 additions, multiplications and
// comparisons, each rounded once, so that every machine gives the same bits; the formulas are PyTorch's.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace cimq::kernels {

/// The elements `first` and `second` of an axis, weighted with `first_weight` and `second_weight`.
struct AxisSample {
  std::int64_t first, second;
  float first_weight, second_weight;
};

/// floor(real), at most last; real must not be negative. Compares before it converts, so that no value is out of range.
CIMQ_HOST_DEVICE inline std::int64_t floor_within(float real, std::int64_t last) {
  return real < static_cast<float>(last) ? static_cast<std::int64_t>(real) : last;
}

/// Nearest neighbour of element i of `out`: floor(i * step), `step` source elements per element. i where the sizes are
/// equal and floor(i / 2) where they are one to two, whatever the step: so PyTorch has it.
CIMQ_HOST_DEVICE inline std::int64_t nearest_source(std::int64_t i, std::int64_t in, std::int64_t out, float step) {
  if (out == in) return i;
  if (out == 2 * in) return i / 2;
  return floor_within(static_cast<float>(i) * step, in - 1);
}

/// Linear interpolation at element i of `out`. The position is step * (i + 0.5) - 0.5, at least 0; with align_corners
/// i * ((in - 1) / (out - 1)), without regard to `step`. Its fraction is the weight of the second element.
CIMQ_HOST_DEVICE inline AxisSample linear_source(std::int64_t i, std::int64_t in, std::int64_t out, float step,
                                                 bool align_corners) {
  if (out == in) return {i, i, 1.0F, 0.0F};
  float position = 0.0F;
  if (align_corners) {
    const float spacing = out > 1 ? static_cast<float>(in - 1) / static_cast<float>(out - 1) : 0.0F;
    position = spacing * static_cast<float>(i);
  } else {
    const float centre = static_cast<float>(i) + 0.5F;
    const float scaled = step * centre;
    position = scaled - 0.5F;
    position = position < 0.0F ? 0.0F : position;
  }
  const std::int64_t first = floor_within(position, in - 1);
  const float fraction = position - static_cast<float>(first);
  const float weight = fraction > 1.0F ? 1.0F : fraction;
  return {first, first < in - 1 ? first + 1 : first, 1.0F - weight, weight};
}

/// A row at a column: columns first.
CIMQ_HOST_DEVICE inline float between(const float* row, const AxisSample& at) {
  const float first = row[at.first] * at.first_weight;
  const float second = row[at.second] * at.second_weight;
  return first + second;
}

/// A plane of width w at a row and a column.
CIMQ_HOST_DEVICE inline float bilinear(const float* plane, std::int64_t w, const AxisSample& row,
                                       const AxisSample& column) {
  const float upper = between(plane + row.first * w, column) * row.first_weight;
  const float lower = between(plane + row.second * w, column) * row.second_weight;
  return upper + lower;
}

}  // namespace cimq::kernels
