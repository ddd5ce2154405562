#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "common/error.h"
#include "kernels/resize.h"

namespace cimq::kernels {
namespace {

std::vector<float> row(const std::vector<float>& x, std::int64_t out, float step, ResizeMode mode, bool corners) {
  std::vector<float> y(static_cast<std::size_t>(out));
  const auto width = static_cast<std::int64_t>(x.size());
  cpu::resize2d(x.data(), 1, 1, 1, width, {mode, 1, out, 1.0F, step, corners}, y.data());
  return y;
}

}  // namespace

TEST_CASE("nearest takes the element at floor(i * step)", "[resize]") {
  const std::vector<float> x{1, 2, 3, 4, 5};
  const auto nearest = [&](std::int64_t out, float step) { return row(x, out, step, ResizeMode::kNearest, false); };
  CHECK(nearest(3, 5.0F / 3.0F) == std::vector<float>{1, 2, 4});
  CHECK(nearest(7, 5.0F / 7.0F) == std::vector<float>{1, 1, 2, 3, 3, 4, 5});
  CHECK(nearest(5, 0.25F) == x);  // equal sizes: a copy
  CHECK(nearest(10, 0.25F) == std::vector<float>{1, 1, 2, 2, 3, 3, 4, 4, 5, 5});
  CHECK(nearest(3, 1e30F) == std::vector<float>{1, 5, 5});  // never outside
}

TEST_CASE("bilinear interpolates between centres or corners", "[resize]") {
  const std::vector<float> x{0, 4, 8};
  const auto linear = [&](std::int64_t out, float step, bool corners) {
    return row(x, out, step, ResizeMode::kBilinear, corners);
  };
  CHECK(linear(6, 0.5F, false) == std::vector<float>{0, 1, 3, 5, 7, 8});
  CHECK(linear(5, 99.0F, true) == std::vector<float>{0, 2, 4, 6, 8});
  CHECK(linear(1, 3.0F, false) == std::vector<float>{4});
  CHECK(linear(1, 3.0F, true) == std::vector<float>{0});
  CHECK(linear(3, 0.1F, false) == x);
  CHECK(linear(2, std::numeric_limits<float>::max(), false) == std::vector<float>{8, 8});
}

TEST_CASE("bilinear weighs columns first, then rows, rounding every operation", "[resize]") {
  std::vector<float> x;
  for (int j = 0; j < 2 * 3 * 4; ++j) x.push_back(static_cast<float>(j * 37 % 23) / 7.0F);
  const Resize2d resize{ResizeMode::kBilinear, 5, 7, 3.0F / 5.0F, 4.0F / 7.0F, false};
  std::vector<float> y(2 * 5 * 7);
  cpu::resize2d(x.data(), 1, 2, 3, 4, resize, y.data());
  std::size_t index = 0;
  for (std::int64_t c = 0; c < 2; ++c) {
    for (std::int64_t oy = 0; oy < 5; ++oy) {
      for (std::int64_t ox = 0; ox < 7; ++ox) {
        const AxisSample v = linear_source(oy, 3, 5, resize.step_h, false);
        const AxisSample u = linear_source(ox, 4, 7, resize.step_w, false);
        const auto at = [&](std::int64_t iy, std::int64_t ix) {
          return x[static_cast<std::size_t>((c * 3 + iy) * 4 + ix)];
        };
        const float a = at(v.first, u.first) * u.first_weight;
        const float b = at(v.first, u.second) * u.second_weight;
        const float d = at(v.second, u.first) * u.first_weight;
        const float e = at(v.second, u.second) * u.second_weight;
        const float upper = (a + b) * v.first_weight;
        const float lower = (d + e) * v.second_weight;
        CHECK(y[index++] == upper + lower);
      }
    }
  }
}

TEST_CASE("impossible resizing is refused", "[resize][errors]") {
  const float x = 1.0F;
  float y = 0.0F;
  const auto call = [&](const Resize2d& resize, std::int64_t h = 1) { cpu::resize2d(&x, 1, 1, h, 1, resize, &y); };
  CHECK_THROWS_WITH(call({}, 0), Catch::Contains("resize2d: x must be"));
  CHECK_THROWS_WITH(call({ResizeMode::kNearest, 0, 1}), Catch::Contains("at least one row"));
  for (const float step : {0.0F, -1.0F, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    CHECK_THROWS_WITH(call({ResizeMode::kNearest, 1, 1, step, 1.0F}), Catch::Contains("positive and finite"));
  }
  CHECK_THROWS_WITH(call({ResizeMode::kNearest, 1, 1, 1.0F, 1.0F, true}), Catch::Contains("only bilinear"));
  CHECK(resize_mode_of("bicubic") == std::nullopt);
}

}  // namespace cimq::kernels
