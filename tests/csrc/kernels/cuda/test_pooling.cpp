// The CUDA kernels of pooling and means, emulated, against those of the CPU: the same bits.
#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "common/error.h"
#include "emulation/run.h"
#include "kernels/cuda/guarded_floats.h"
#include "kernels/pooling.h"

namespace cimq::kernels::testing {
namespace {

struct Image {
  std::int64_t n, c, h, w;
  std::int64_t count() const { return n * c * h * w; }
};

GuardedFloats image_of(const Image& size, std::size_t offset) {
  GuardedFloats x(size.count(), offset);
  x.fill(1.7e-3);
  if (x.size() > 20) x[17] = std::nanf("");
  if (x.size() > 90) x[85] = 1e30F;
  return x;
}

void check_avg(const Image& size, const Pool2d& pool, std::size_t offset = 0) {
  INFO("image " << size.n << " " << size.c << " " << size.h << " " << size.w << ", kernel " << pool.kernel_h << " "
                << pool.kernel_w << ", offset " << offset);
  const PooledImage out = avg_pooled_image(size.n, size.c, size.h, size.w, pool);
  const GuardedFloats x = image_of(size, offset);
  GuardedFloats y(size.n * size.c * out.h * out.w, offset);
  std::vector<float> wanted(y.size());
  cpu::avg_pool2d(x.data(), size.n, size.c, size.h, size.w, pool, wanted.data());
  cuda::avg_pool2d(x.data(), size.n, size.c, size.h, size.w, pool, y.data(), {});
  y.check_equals(wanted);
}

TEST_CASE("cuda avg_pool2d: the bits of the CPU", "[cuda][pooling]") {
  emulation::in_every_order([] {
    for (const Image& size : {Image{2, 3, 9, 11}, Image{1, 1, 4, 5}, Image{0, 3, 4, 4}, Image{3, 5, 7, 7}}) {
      check_avg(size, {2, 2, 2, 2, 0, 0, false, true, 0});
      check_avg(size, {3, 3, 2, 2, 1, 1, true, true, 0});
      check_avg(size, {3, 4, 1, 3, 1, 2, true, false, 0});
      check_avg(size, {4, 1, 3, 1, 2, 0, false, true, 5}, 3);
      check_avg(size, {4, 4, 4, 4, 0, 0, false, true, 0}, 1);
    }
  });
}

void check_adaptive(const Image& size, std::int64_t out_h, std::int64_t out_w, std::size_t offset = 0) {
  INFO("image " << size.n << " " << size.c << " " << size.h << " " << size.w << " to " << out_h << " " << out_w);
  const GuardedFloats x = image_of(size, offset);
  GuardedFloats y(size.n * size.c * out_h * out_w, offset);
  std::vector<float> wanted(y.size());
  cpu::adaptive_avg_pool2d(x.data(), size.n, size.c, size.h, size.w, out_h, out_w, wanted.data());
  cuda::adaptive_avg_pool2d(x.data(), size.n, size.c, size.h, size.w, out_h, out_w, y.data(), {});
  y.check_equals(wanted);
}

TEST_CASE("cuda adaptive_avg_pool2d: the bits of the CPU", "[cuda][pooling]") {
  emulation::in_every_order([] {
    for (const Image& size : {Image{2, 3, 9, 11}, Image{1, 1, 1, 1}, Image{0, 3, 4, 4}, Image{7, 150, 7, 7}}) {
      for (std::size_t offset = 0; offset < 2; ++offset) {
        check_adaptive(size, 1, 1, offset);
        check_adaptive(size, 3, 2, offset);
        check_adaptive(size, 12, 13, offset);
        check_adaptive(size, 1, 5, offset);
      }
    }
    check_adaptive({1, 2, 96, 97}, 1, 1, 3);  // rows that are longer than a tile
  });
}

/// x [outer, n, inner]; the tile's rows depend on all three.
void check_mean(std::int64_t outer, std::int64_t n, std::int64_t inner, std::size_t offset = 0) {
  INFO("mean of " << outer << " " << n << " " << inner);
  GuardedFloats x(outer * n * inner, offset);
  x.fill(3.1);
  if (x.size() > 20) x[17] = std::nanf("");
  GuardedFloats y(outer * inner, offset);
  std::vector<float> wanted(y.size());
  const std::array<std::int64_t, 3> shape = {outer, n, inner};
  const std::array<std::int64_t, 1> dims = {1};
  cpu::mean(x.data(), shape, dims, wanted.data());
  cuda::mean(x.data(), outer, n, inner, y.data(), {});
  y.check_equals(wanted);
}

TEST_CASE("cuda mean: the bits of the CPU", "[cuda][pooling]") {
  emulation::in_every_order([] {
    for (const std::int64_t inner : {1, 3, 300}) {
      for (const std::int64_t n : {1, 2, 49, 256}) {
        for (const std::int64_t outer : {0, 1, 7}) check_mean(outer, n, inner);
      }
    }
    check_mean(1, 20011, 1, 1);
    check_mean(3, 8193, 1, 2);
    check_mean(1100, 9, 1);      // two rows to a block
    check_mean(17000, 3, 1, 3);  // as many as there are lanes, the last block not full
    check_mean(5000, 4, 1);
  });
}

TEST_CASE("cuda pooling: impossible sizes are refused as on the CPU", "[cuda][pooling][errors]") {
  const float x = 0.0F;
  float y = 0.0F;
  CHECK_THROWS_WITH(cuda::avg_pool2d(&x, 1, 1, 2, 2, {3, 3, 1, 1, 0, 0, false, true, 0}, &y, {}),
                    Catch::Contains("at least as large as the kernel"));
  CHECK_THROWS_WITH(cuda::avg_pool2d(&x, 1, 1, 4, 4, {3, 3, 1, 1, 2, 0, false, true, 0}, &y, {}),
                    Catch::Contains("at most half the kernel"));
  CHECK_THROWS_WITH(cuda::adaptive_avg_pool2d(&x, 1, 1, 4, 4, 0, 1, &y, {}), Catch::Contains("at least one row"));
  CHECK_THROWS_WITH(cuda::mean(&x, 1, 0, 1, &y, {}), Catch::Contains("at least one value"));
}

}  // namespace
}  // namespace cimq::kernels::testing
