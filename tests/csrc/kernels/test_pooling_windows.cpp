#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "common/error.h"
#include "common/pooled_size.h"
#include "kernels/pooling.h"

namespace cimq::kernels {

TEST_CASE("the number of windows follows PyTorch's rule", "[pooling]") {
  // size, kernel, stride, pad, dilation, rounded down, rounded up
  constexpr std::array<std::array<std::int64_t, 7>, 9> kCases = {{{8, 3, 2, 0, 1, 3, 4},
                                                                  {7, 3, 2, 0, 1, 3, 3},
                                                                  {6, 2, 3, 0, 1, 2, 2},
                                                                  {7, 2, 3, 0, 1, 2, 3},
                                                                  {5, 2, 4, 1, 1, 2, 2},  // a third would start at 7
                                                                  {4, 2, 4, 1, 1, 2, 2},
                                                                  {3, 1, 3, 0, 1, 1, 1},  // a second would start at 3
                                                                  {2, 3, 2, 0, 1, 0, 1},
                                                                  {6, 3, 2, 1, 2, 2, 3}}};
  for (const auto& [size, kernel, stride, pad, dilation, down, up] : kCases) {
    INFO(size << " " << kernel << " " << stride << " " << pad << " " << dilation);
    CHECK(pooled_size(size, kernel, stride, pad, dilation, false) == down);
    CHECK(pooled_size(size, kernel, stride, pad, dilation, true) == up);
  }
}

TEST_CASE("windows that hang over the image divide by what they cover", "[pooling]") {
  const std::vector<float> x{1, 2, 3, 4, 5};
  std::vector<float> y(3);
  // Windows {1 2} {3 4} {5}.
  cpu::avg_pool2d(x.data(), 1, 1, 1, 5, {1, 2, 1, 2, 0, 0, true, true}, y.data());
  CHECK(y == std::vector<float>{1.5F, 3.5F, 5.0F});
  // One of padding on both sides: {0 1} {2 3} {4 5}; then three wide, two apart: {0 1 2} {2 3 4} {4 5 0}.
  cpu::avg_pool2d(x.data(), 1, 1, 1, 5, {1, 2, 1, 2, 0, 1, true, true}, y.data());
  CHECK(y == std::vector<float>{0.5F, 2.5F, 4.5F});
  cpu::avg_pool2d(x.data(), 1, 1, 1, 5, {1, 3, 1, 2, 0, 1, true, false}, y.data());
  CHECK(y == std::vector<float>{1.5F, 3.0F, 4.5F});
  // {0 1 2 3} {3 4 5 0} of a padded row of 7 with stride 3; the second ends at the padding's end.
  y.resize(2);
  cpu::avg_pool2d(x.data(), 1, 1, 1, 5, {1, 4, 1, 3, 0, 1, true, true}, y.data());
  CHECK(y == std::vector<float>{1.5F, 3.0F});
  // {4 5 0} of a window of 4: it leaves the padded row, which counts 3.
  const std::vector<float> six{1, 2, 3, 4, 5, 6};
  y.resize(3);
  cpu::avg_pool2d(six.data(), 1, 1, 1, 6, {1, 4, 1, 3, 0, 1, true, true}, y.data());
  CHECK(y == std::vector<float>{1.5F, 4.5F, 3.0F});
  cpu::avg_pool2d(six.data(), 1, 1, 1, 6, {1, 4, 1, 3, 0, 1, true, false}, y.data());
  CHECK(y == std::vector<float>{2.0F, 4.5F, 6.0F});
  cpu::avg_pool2d(six.data(), 1, 1, 1, 6, {1, 4, 1, 3, 0, 1, true, true, 6}, y.data());
  CHECK(y == std::vector<float>{1.0F, 3.0F, 1.0F});
}

TEST_CASE("adaptive windows overlap where the size is no multiple", "[pooling]") {
  const std::vector<float> x{1, 2, 3, 4, 5};
  std::vector<float> y(3);
  cpu::adaptive_avg_pool2d(x.data(), 1, 1, 1, 5, 1, 3, y.data());  // {1 2} {2 3 4} {4 5}
  CHECK(y == std::vector<float>{1.5F, 3.0F, 4.5F});
  cpu::adaptive_max_pool2d(x.data(), 1, 1, 1, 5, 1, 3, y.data());
  CHECK(y == std::vector<float>{2.0F, 4.0F, 5.0F});
  y.resize(7);
  cpu::adaptive_avg_pool2d(x.data(), 1, 1, 1, 5, 1, 7, y.data());  // more windows than elements
  CHECK(y == std::vector<float>{1.0F, 1.5F, 2.5F, 3.0F, 3.5F, 4.5F, 5.0F});
  const std::vector<float> odd{1.0F, std::nanf(""), 2.0F, -std::numeric_limits<float>::infinity()};
  y.resize(2);
  cpu::adaptive_max_pool2d(odd.data(), 1, 1, 1, 4, 1, 2, y.data());
  CHECK(std::isnan(y[0]));
  CHECK(y[1] == 2.0F);
}

TEST_CASE("adaptive average pooling with equal windows is average pooling", "[pooling]") {
  std::vector<float> x;
  for (int j = 0; j < 2 * 3 * 6 * 8; ++j) x.push_back(static_cast<float>(j * 37 % 101) / 7.0F);
  std::vector<float> a(2 * 3 * 3 * 2);
  std::vector<float> b = a;
  cpu::adaptive_avg_pool2d(x.data(), 2, 3, 6, 8, 3, 2, a.data());
  cpu::avg_pool2d(x.data(), 2, 3, 6, 8, {2, 4, 2, 4}, b.data());
  CHECK(a == b);
}

TEST_CASE("the mean is summed in double in the order of memory", "[pooling]") {
  const std::vector<float> x{1e8F, 1.0F, -1e8F, 2.0F, 3.0F, 4.0F};
  const std::array<std::int64_t, 2> shape = {2, 3};
  std::vector<float> y(2);
  cpu::mean(x.data(), shape, std::array<std::int64_t, 1>{1}, y.data());
  CHECK(y == std::vector<float>{1.0F / 3.0F, 3.0F});
  y.resize(3);
  cpu::mean(x.data(), shape, std::array<std::int64_t, 1>{0}, y.data());
  CHECK(y == std::vector<float>{50000001.0F, 2.0F, -49999998.0F});
  cpu::mean(x.data(), shape, std::array<std::int64_t, 2>{1, 0}, y.data());
  CHECK(y[0] == static_cast<float>(10.0 / 6.0));
  const std::array<std::int64_t, 3> cube = {2, 3, 1};
  y.resize(2);
  cpu::mean(x.data(), cube, std::array<std::int64_t, 2>{1, 2}, y.data());
  CHECK(y == std::vector<float>{1.0F / 3.0F, 3.0F});
}

TEST_CASE("impossible windows and means are refused", "[pooling][errors]") {
  const std::vector<float> x(9, 1.0F);
  std::vector<float> y(9);
  CHECK_THROWS_WITH(cpu::avg_pool2d(x.data(), 1, 1, 3, 3, {3, 3, 1, 1, 0, 0, true, true, -1}, y.data()),
                    Catch::Contains("divisor must be positive, got -1"));
  CHECK_THROWS_WITH(cpu::avg_pool2d(x.data(), 1, 1, 1, 3, {3, 3, 1, 1, 0, 0, true}, y.data()),
                    Catch::Contains("at least as large"));
  CHECK_THROWS_WITH(cpu::adaptive_avg_pool2d(x.data(), 1, 1, 3, 3, 0, 1, y.data()),
                    Catch::Contains("adaptive_avg_pool2d: the result must have"));
  CHECK_THROWS_WITH(cpu::adaptive_max_pool2d(x.data(), 1, 1, 0, 3, 1, 1, y.data()),
                    Catch::Contains("adaptive_max_pool2d: x must be"));
  const std::array<std::int64_t, 2> shape = {3, 3};
  const std::array<std::int64_t, 2> empty = {3, 0};
  CHECK_THROWS_WITH(cpu::mean(x.data(), shape, std::array<std::int64_t, 1>{2}, y.data()), Catch::Contains("in 0 .. 1"));
  CHECK_THROWS_WITH(cpu::mean(x.data(), shape, std::array<std::int64_t, 2>{1, 1}, y.data()),
                    Catch::Contains("named twice"));
  CHECK_THROWS_WITH(cpu::mean(x.data(), empty, std::array<std::int64_t, 1>{1}, y.data()),
                    Catch::Contains("dimension 1 has"));
}

}  // namespace cimq::kernels
