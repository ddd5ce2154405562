#include "kernels/resize.h"

#include <vector>

namespace cimq::kernels::cpu {
namespace {

void nearest(const float* plane, std::int64_t w, const Resize2d& r, const std::vector<std::int64_t>& rows,
             const std::vector<std::int64_t>& columns, float* y) {
  for (std::int64_t oy = 0; oy < r.out_h; ++oy) {
    const float* row = plane + rows[static_cast<std::size_t>(oy)] * w;
    for (std::int64_t ox = 0; ox < r.out_w; ++ox) *y++ = row[columns[static_cast<std::size_t>(ox)]];
  }
}

void interpolate(const float* plane, std::int64_t w, const std::vector<AxisSample>& rows,
                 const std::vector<AxisSample>& columns, float* y) {
  for (const AxisSample& row : rows) {
    for (const AxisSample& column : columns) *y++ = bilinear(plane, w, row, column);
  }
}

}  // namespace

void resize2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& r,
              float* y) {
  check_resize2d(n, c, h, w, r);
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
  for (std::int64_t p = 0; p < planes; ++p) interpolate(x + p * h * w, w, rows, columns, y + p * size);
}

}  // namespace cimq::kernels::cpu
