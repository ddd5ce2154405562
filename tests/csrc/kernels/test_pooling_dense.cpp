#include <catch2/catch.hpp>
#include <vector>

#include "common/error.h"
#include "kernels/dense.h"
#include "kernels/pooling.h"

namespace cimq::kernels {

TEST_CASE("average pooling sums in row order and divides once", "[pooling]") {
  // float32 sums depend on the order: 1e8 + 1 + 1 - 1e8 = 0, row by row.
  const std::vector<float> x{1e8F, 1.0F, 1.0F, -1e8F};
  float y = -1.0F;
  cpu::avg_pool2d(x.data(), 1, 1, 2, 2, {2, 2, 2, 2}, &y);
  CHECK(y == 0.0F);
  const std::vector<float> thirds{1.0F, 0.0F, 0.0F};
  cpu::avg_pool2d(thirds.data(), 1, 1, 1, 3, {1, 3, 1, 1}, &y);
  CHECK(y == 1.0F / 3.0F);
}

TEST_CASE("average pooling counts padding or not", "[pooling]") {
  const std::vector<float> x{1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<float> y(4);
  cpu::avg_pool2d(x.data(), 1, 1, 3, 3, {2, 2, 2, 2, 1, 1}, y.data());
  CHECK(y == std::vector<float>{0.25F, 1.25F, 2.75F, 7.0F});
  cpu::avg_pool2d(x.data(), 1, 1, 3, 3, {2, 2, 2, 2, 1, 1, false, false}, y.data());
  CHECK(y == std::vector<float>{1.0F, 2.5F, 5.5F, 7.0F});
}

TEST_CASE("average pooling handles images and channels on their own, and strides", "[pooling]") {
  std::vector<float> x;
  for (int j = 0; j < 2 * 3 * 4; ++j) x.push_back(static_cast<float>(j));
  std::vector<float> y(2 * 3 * 2);
  cpu::avg_pool2d(x.data(), 2, 3, 1, 4, {1, 2, 1, 2}, y.data());
  for (int j = 0; j < 12; ++j) CHECK(y[static_cast<std::size_t>(j)] == 2.0F * static_cast<float>(j) + 0.5F);
}

TEST_CASE("impossible pooling is refused", "[pooling][errors]") {
  const std::vector<float> x(9, 1.0F);
  float y = 0.0F;
  const auto pool = [&](std::int64_t h, std::int64_t k, std::int64_t s, std::int64_t p) {
    cpu::avg_pool2d(x.data(), 1, 1, h, 3, {k, k, s, s, p, p}, &y);
  };
  CHECK_THROWS_WITH(pool(0, 1, 1, 0), Catch::Contains("avg_pool2d: x must be"));
  CHECK_THROWS_WITH(pool(3, 0, 1, 0), Catch::Contains("kernel and stride"));
  CHECK_THROWS_WITH(pool(3, 1, 0, 0), Catch::Contains("kernel and stride"));
  CHECK_THROWS_WITH(pool(3, 2, 1, 2), Catch::Contains("half the kernel"));
  CHECK_THROWS_WITH(pool(3, 4, 1, 0), Catch::Contains("at least as large"));
}

TEST_CASE("linear_f32 accumulates in double and rounds once", "[dense]") {
  // In float32, 1e8 + 1 - 1e8 loses the 1.
  const std::vector<float> x{1e8F, 1.0F, -1e8F};
  std::vector<float> w(9 * 3, 1.0F);
  w[3] = 2.0F;
  const std::vector<float> bias{0.5F, 0, 0, 0, 0, 0, 0, 0, -1.0F};
  std::vector<float> y(9);
  cpu::linear_f32(x.data(), w.data(), bias.data(), 1, 3, 9, y.data());
  CHECK(y[0] == 1.5F);
  CHECK(y[1] == 1e8F);
  CHECK(y[8] == 0.0F);
  cpu::linear_f32(x.data(), w.data(), nullptr, 1, 3, 9, y.data());
  CHECK(y[8] == 1.0F);
  CHECK_THROWS_WITH(cpu::linear_f32(x.data(), w.data(), nullptr, -1, 3, 9, y.data()), Catch::Contains("linear_f32"));
}

TEST_CASE("conv2d_f32 equals the sum over channel, kernel row, kernel column", "[dense]") {
  Conv2dGeometry g;
  g.in_channels = 4;
  g.out_channels = 6;
  g.groups = 2;
  g.kernel_h = 2;
  g.kernel_w = 3;
  g.stride_h = 2;
  g.pad_top = 1;
  g.pad_right = 2;
  g.dilation_w = 2;
  constexpr std::int64_t kH = 5;
  constexpr std::int64_t kW = 7;
  std::vector<float> x(2 * 4 * kH * kW);
  std::vector<float> w(6 * 2 * 2 * 3);
  const std::vector<float> bias{0.1F, 0.2F, 0.3F, 0.4F, 0.5F, 0.6F};
  for (std::size_t j = 0; j < x.size(); ++j) x[j] = static_cast<float>((j * 37 % 101)) / 7.0F - 5.0F;
  for (std::size_t j = 0; j < w.size(); ++j) w[j] = static_cast<float>((j * 53 % 89)) / 11.0F - 4.0F;
  std::vector<float> y(static_cast<std::size_t>(2 * 6 * g.out_h(kH) * g.out_w(kW)));
  cpu::conv2d_f32(x.data(), w.data(), bias.data(), g, 2, kH, kW, y.data());
  std::size_t index = 0;
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t o = 0; o < 6; ++o) {
      for (std::int64_t oy = 0; oy < g.out_h(kH); ++oy) {
        for (std::int64_t ox = 0; ox < g.out_w(kW); ++ox) {
          double sum = 0.0;
          for (std::int64_t k = 0; k < 12; ++k) {
            const std::int64_t c = o / 3 * 2 + k / 6;
            const std::int64_t iy = oy * 2 - 1 + k / 3 % 2;
            const std::int64_t ix = ox + k % 3 * 2;
            if (iy < 0 || iy >= kH || ix >= kW) continue;
            sum += double{x[static_cast<std::size_t>(((b * 4 + c) * kH + iy) * kW + ix)]} *
                   w[static_cast<std::size_t>(o * 12 + k)];
          }
          CHECK(y[index++] == static_cast<float>(sum + double{bias[static_cast<std::size_t>(o)]}));
        }
      }
    }
  }
  CHECK_THROWS_WITH(cpu::conv2d_f32(x.data(), w.data(), nullptr, g, 1, 0, 7, y.data()), Catch::Contains("conv2d_f32"));
}

TEST_CASE("products of two values sum in double and round once", "[dense]") {
  constexpr std::int64_t kRows = 3;
  constexpr std::int64_t kInner = 5;
  constexpr std::int64_t kColumns = 10;  // more than the outputs that are summed side by side
  std::vector<float> a(2 * kRows * kInner);
  std::vector<float> c(2 * kInner * kColumns);
  for (std::size_t j = 0; j < a.size(); ++j) a[j] = static_cast<float>((j * 37 % 101)) / 7.0F - 5.0F;
  for (std::size_t j = 0; j < c.size(); ++j) c[j] = static_cast<float>((j * 53 % 89)) / 11.0F - 4.0F;
  std::vector<float> y(2 * kRows * kColumns);
  cpu::matmul_f32(a.data(), c.data(), 2, kRows, kInner, kColumns, y.data());
  std::size_t index = 0;
  for (std::int64_t i = 0; i < 2 * kRows; ++i) {
    for (std::int64_t j = 0; j < kColumns; ++j) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < kInner; ++k) {
        sum += double{a[static_cast<std::size_t>(i * kInner + k)]} *
               c[static_cast<std::size_t>((i / kRows * kInner + k) * kColumns + j)];
      }
      CHECK(y[index++] == static_cast<float>(sum));
    }
  }
  CHECK_THROWS_WITH(cpu::matmul_f32(a.data(), c.data(), 1, 0, 1, 1, y.data()), Catch::Contains("matmul_f32"));
}

}  // namespace cimq::kernels
