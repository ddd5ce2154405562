// The CUDA kernels of resizing, emulated, against those of the CPU: the same bits.
#include <catch2/catch.hpp>
#include <vector>

#include "common/error.h"
#include "emulation/run.h"
#include "kernels/cuda/guarded_floats.h"
#include "kernels/resize.h"

namespace cimq::kernels::testing {
namespace {

void check(std::int64_t n, std::int64_t h, std::int64_t w, const Resize2d& resize, std::size_t offset = 0) {
  INFO("planes " << 2 * n << ", " << h << " x " << w << " to " << resize.out_h << " x " << resize.out_w);
  GuardedFloats x(n * 2 * h * w, offset);
  x.fill(0.37);
  if (x.size() > 7) x[6] = std::nanf("");
  GuardedFloats y(n * 2 * resize.out_h * resize.out_w, offset);
  std::vector<float> wanted(y.size());
  cpu::resize2d(x.data(), n, 2, h, w, resize, wanted.data());
  cuda::resize2d(x.data(), n, 2, h, w, resize, y.data(), {});
  y.check_equals(wanted);
}

TEST_CASE("cuda resize2d: the bits of the CPU", "[cuda][resize]") {
  emulation::in_every_order([] {
    for (const ResizeMode mode : {ResizeMode::kNearest, ResizeMode::kBilinear}) {
      for (const bool corners : {false, true}) {
        if (corners && mode == ResizeMode::kNearest) continue;
        for (const auto& [h, w, out_h, out_w] :
             {std::array<std::int64_t, 4>{5, 7, 10, 14}, {5, 7, 5, 7}, {9, 8, 4, 3}, {1, 1, 3, 2}, {6, 5, 1, 17}}) {
          const float step_h = static_cast<float>(h) / static_cast<float>(out_h);
          const float step_w = static_cast<float>(w) / static_cast<float>(out_w);
          check(3, h, w, {mode, out_h, out_w, step_h, step_w, corners});
          check(1, h, w, {mode, out_h, out_w, 0.7F, 1.9F, corners}, 1);
        }
        check(0, 3, 3, {mode, 6, 6, 0.5F, 0.5F, corners});
      }
    }
  });
}

TEST_CASE("cuda resize2d: impossible sizes are refused as on the CPU", "[cuda][resize][errors]") {
  const float x = 0.0F;
  float y = 0.0F;
  CHECK_THROWS_WITH(cuda::resize2d(&x, 1, 1, 0, 1, {}, &y, {}), Catch::Contains("h and w at least 1"));
  CHECK_THROWS_WITH(cuda::resize2d(&x, 1, 1, 1, 1, {ResizeMode::kNearest, 1, 1, 0.0F, 1.0F, false}, &y, {}),
                    Catch::Contains("steps must be positive"));
}

}  // namespace
}  // namespace cimq::kernels::testing
