// The CUDA kernel of activation functions, emulated, against that of the CPU: the same bits.
#include <catch2/catch.hpp>
#include <limits>
#include <vector>

#include "emulation/run.h"
#include "kernels/activation.h"
#include "kernels/cuda/guarded_floats.h"

namespace cimq::kernels::testing {
namespace {

constexpr Activation kKinds[] = {Activation::kSigmoid,   Activation::kSilu, Activation::kHardsigmoid,
                                 Activation::kHardswish, Activation::kTanh, Activation::kGelu,
                                 Activation::kGeluTanh,  Activation::kElu};

void check_kind(Activation kind, std::int64_t count, std::size_t x_offset, std::size_t y_offset, float alpha) {
  INFO(name_of(kind) << ", " << count << " values, offsets " << x_offset << " and " << y_offset);
  GuardedFloats x(count, x_offset);
  GuardedFloats y(count, y_offset);
  x.fill(0.031);
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  const float special[] = {-0.0F, 0.0F, 1e-40F, -1e-40F, -90.0F, 3e38F, -3e38F, kInfinite, -kInfinite, std::nanf("")};
  for (std::size_t i = 0; i < std::size(special) && 3 * i < x.size(); ++i) x[3 * i] = special[i];
  std::vector<float> wanted(x.size());
  cpu::activation(kind, x.data(), count, wanted.data(), alpha);
  cuda::activation(kind, x.data(), count, y.data(), alpha, {});
  y.check_equals(wanted);
  cuda::activation(kind, x.data(), count, x.data(), alpha, {});
  x.check_equals(wanted);
}

TEST_CASE("cuda activation: the bits of the CPU", "[cuda][activation]") {
  emulation::in_every_order([] {
    for (const Activation kind : kKinds) {
      for (const std::int64_t count : {0, 1, 3, 4, 37, 1027, 2048}) check_kind(kind, count, 0, 0, 1.0F);
      for (std::size_t offset = 0; offset < 5; ++offset) {
        check_kind(kind, 45, offset, offset, 0.375F);
        check_kind(kind, 45, offset, 0, -2.0F);
      }
    }
  });
}

}  // namespace
}  // namespace cimq::kernels::testing
