#include "kernels/resize.h"

#include <cmath>
#include <vector>

#include "common/error.h"

namespace cimq::kernels::cpu {
namespace {

void check_resize(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& r) {
  check(n >= 0 && c >= 0 && h >= 1 && w >= 1, "resize2d: x must be [n, c, h, w] with h and w at least 1, got [", n,
        ", ", c, ", ", h, ", ", w, "]");
  check(r.out_h >= 1 && r.out_w >= 1, "resize2d: the result must have at least one row and column, got ", r.out_h,
        " x ", r.out_w);
  check(std::isfinite(r.step_h) && std::isfinite(r.step_w) && r.step_h > 0.0F && r.step_w > 0.0F,
        "resize2d: steps must be positive and finite, got ", r.step_h, " and ", r.step_w);
  check(r.mode == ResizeMode::kBilinear || !r.align_corners, "resize2d: only bilinear can align corners");
}

void nearest(const float* plane, std::int64_t w, const Resize2d& r, const std::vector<std::int64_t>& rows,
             const std::vector<std::int64_t>& columns, float* y) {
  for (std::int64_t oy = 0; oy < r.out_h; ++oy) {
    const float* row = plane + rows[static_cast<std::size_t>(oy)] * w;
    for (std::int64_t ox = 0; ox < r.out_w; ++ox) *y++ = row[columns[static_cast<std::size_t>(ox)]];
  }
}

float between(const float* row, const AxisSample& at) {
  const float first = row[at.first] * at.first_weight;
  const float second = row[at.second] * at.second_weight;
  return first + second;
}

void bilinear(const float* plane, std::int64_t w, const std::vector<AxisSample>& rows,
              const std::vector<AxisSample>& columns, float* y) {
  for (const AxisSample& row : rows) {
    for (const AxisSample& column : columns) {
      const float upper = between(plane + row.first * w, column) * row.first_weight;
      const float lower = between(plane + row.second * w, column) * row.second_weight;
      *y++ = upper + lower;
    }
  }
}

}  // namespace

void resize2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& r,
              float* y) {
  check_resize(n, c, h, w, r);
  const std::int64_t planes = n * c;
  const std::int64_t size = r.out_h * r.out_w;
  if (r.mode == ResizeMode::kNearest) {
    std::vector<std::int64_t> rows, columns;
    for (std::int64_t i = 0; i < r.out_h; ++i) rows.push_back(nearest_source(i, h, r.out_h, r.step_h));
    for (std::int64_t i = 0; i < r.out_w; ++i) columns.push_back(nearest_source(i, w, r.out_w, r.step_w));
    for (std::int64_t p = 0; p < planes; ++p) nearest(x + p * h * w, w, r, rows, columns, y + p * size);
    return;
  }
  std::vector<AxisSample> rows, columns;
  for (std::int64_t i = 0; i < r.out_h; ++i) rows.push_back(linear_source(i, h, r.out_h, r.step_h, r.align_corners));
  for (std::int64_t i = 0; i < r.out_w; ++i) columns.push_back(linear_source(i, w, r.out_w, r.step_w, r.align_corners));
  for (std::int64_t p = 0; p < planes; ++p) bilinear(x + p * h * w, w, rows, columns, y + p * size);
}

}  // namespace cimq::kernels::cpu
