// The CUDA kernels of float32 layers, emulated, against those of the CPU: the same bits.
#include <array>
#include <catch2/catch.hpp>
#include <limits>
#include <vector>

#include "common/error.h"
#include "emulation/run.h"
#include "kernels/cuda/guarded_floats.h"
#include "kernels/dense.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

/// Values of very different size, so that another order of additions gives other bits.
void fill(Random& random, GuardedFloats& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto size = static_cast<int>(random.integer(-12, 12));
    values[i] = std::ldexp(static_cast<float>(random.integer(-9999, 9999)), size);
  }
}

TEST_CASE("cuda linear_f32: the bits of the CPU", "[cuda][dense]") {
  Random random(51);
  emulation::in_every_order([&] {
    for (const auto& [batch, inputs, outputs] :
         {std::array<std::int64_t, 3>{1, 1, 1}, {0, 3, 3}, {64, 16, 64}, {65, 33, 63}, {3, 100, 130}, {130, 5, 2}}) {
      for (const bool with_bias : {false, true}) {
        INFO(batch << " x " << inputs << " x " << outputs);
        GuardedFloats x(batch * inputs, 1);
        GuardedFloats w(outputs * inputs, 2);
        GuardedFloats bias(outputs, 3);
        fill(random, x);
        fill(random, w);
        fill(random, bias);
        if (x.size() > 40) x[37] = std::nanf("");
        if (w.size() > 40) w[38] = std::numeric_limits<float>::infinity();
        const float* added = with_bias ? bias.data() : nullptr;
        GuardedFloats y(batch * outputs, 1);
        std::vector<float> wanted(y.size());
        cpu::linear_f32(x.data(), w.data(), added, batch, inputs, outputs, wanted.data());
        cuda::linear_f32(x.data(), w.data(), added, batch, inputs, outputs, y.data(), {});
        y.check_equals(wanted);
      }
    }
  });
}

TEST_CASE("cuda conv2d_f32: the bits of the CPU", "[cuda][dense]") {
  Random random(53);
  int few = 0;
  for (int j = 0; j < 80; ++j) {
    Conv2dGeometry g;
    g.groups = random.chance(0.5) ? random.integer(2, 4) : 1;
    g.in_channels = g.groups * random.integer(1, 9);
    g.out_channels = g.groups * (random.chance(0.5) ? random.integer(1, 9) : random.integer(60, 70));
    draw_window(random, g);
    const std::int64_t batch = random.integer(0, 3);
    const std::int64_t h = random.integer(5, 8);
    const std::int64_t width = random.integer(10, 12);
    INFO("case " << j << ", channels " << g.in_channels << " to " << g.out_channels << " in " << g.groups
                 << " groups, kernel " << g.kernel_h << " x " << g.kernel_w);
    GuardedFloats x(batch * g.in_channels * h * width, 1);
    GuardedFloats w(g.out_channels * g.inputs_per_output(), 2);
    GuardedFloats bias(g.out_channels);
    fill(random, x);
    fill(random, w);
    fill(random, bias);
    // A weight that is infinite is not multiplied by the padding.
    w[0] = std::numeric_limits<float>::infinity();
    const float* added = random.chance(0.5) ? bias.data() : nullptr;
    GuardedFloats y(batch * g.out_channels * g.out_h(h) * g.out_w(width), 3);
    std::vector<float> wanted(y.size());
    cpu::conv2d_f32(x.data(), w.data(), added, g, batch, h, width, wanted.data());
    cuda::conv2d_f32(x.data(), w.data(), added, g, batch, h, width, y.data(), {});
    y.check_equals(wanted);
    few += g.groups > 1 && g.out_channels / g.groups < 8 ? 1 : 0;
  }
  CHECK(few > 5);
}

TEST_CASE("cuda dense layers: impossible sizes are refused", "[cuda][dense][errors]") {
  const float x = 0.0F;
  float y = 0.0F;
  CHECK_THROWS_WITH(cuda::linear_f32(&x, &x, nullptr, 1, 0, 1, &y, {}), Catch::Contains("inputs and outputs"));
  CHECK_THROWS_WITH(cuda::linear_f32(&x, &x, nullptr, std::int64_t{1} << 31, 1, 1, &y, {}),
                    Catch::Contains("split the batch"));
  CHECK_THROWS_WITH(cuda::conv2d_f32(&x, &x, nullptr, {}, -1, 1, 1, &y, {}), Catch::Contains("at least 0, got -1"));
  CHECK_THROWS_WITH(cuda::conv2d_f32(&x, &x, nullptr, {}, 1, 1, std::int64_t{1} << 30, &y, {}),
                    Catch::Contains("fewer than 2^30 rows and columns"));
}

}  // namespace
}  // namespace cimq::kernels::testing
