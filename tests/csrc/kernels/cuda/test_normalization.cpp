// The CUDA kernel of layer and group normalisation, emulated, against those of the CPU: the same bits.
#include <catch2/catch.hpp>
#include <vector>

#include "common/error.h"
#include "emulation/run.h"
#include "kernels/cuda/guarded_floats.h"
#include "kernels/normalization.h"

namespace cimq::kernels::testing {
namespace {

/// Weight and bias, of which one, both or none are there.
struct Parameters {
  Parameters(std::int64_t count, int which) : weights(count, 1), biases(count, 3) {
    weights.fill(0.002, 1);
    biases.fill(0.005, 2);
    weight = (which & 1) != 0 ? weights.data() : nullptr;
    bias = (which & 2) != 0 ? biases.data() : nullptr;
  }
  GuardedFloats weights, biases;
  const float* weight;
  const float* bias;
};

GuardedFloats values_of(std::int64_t count, std::size_t offset) {
  GuardedFloats x(count, offset);
  x.fill(0.71);
  if (x.size() > 50) x[x.size() / 2] = std::nanf("");
  if (x.size() > 20) x[1] = 1e20F;
  return x;
}

void check_layer(std::int64_t rows, std::int64_t n, int which, std::size_t offset = 0) {
  INFO("layer_norm of " << rows << " x " << n << ", parameters " << which);
  const Parameters parameters(n, which);
  const GuardedFloats x = values_of(rows * n, offset);
  GuardedFloats y(rows * n, offset);
  std::vector<float> wanted(y.size());
  cpu::layer_norm(x.data(), rows, n, parameters.weight, parameters.bias, 1e-5, wanted.data());
  cuda::layer_norm(x.data(), rows, n, parameters.weight, parameters.bias, 1e-5, y.data(), {});
  y.check_equals(wanted);
}

TEST_CASE("cuda layer_norm: the bits of the CPU", "[cuda][normalization]") {
  emulation::in_every_order([] {
    for (int which = 0; which < 4; ++which) {
      for (const std::int64_t n : {1, 5, 64, 771}) {
        for (const std::int64_t rows : {0, 1, 6}) check_layer(rows, n, which);
      }
    }
    check_layer(2, 8192, 3, 1);
    check_layer(1, 8193, 3, 2);  // longer than a tile
    check_layer(1, 20011, 1);
    check_layer(1100, 33, 3, 3);  // several rows to a block
    check_layer(5000, 4, 3);
    check_layer(17000, 3, 2);
  });
}

void check_group(std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups, int which,
                 std::size_t offset = 0) {
  INFO("group_norm of " << batch << " x " << channels << " x " << inner << ", groups " << groups);
  const Parameters parameters(channels, which);
  const GuardedFloats x = values_of(batch * channels * inner, offset);
  GuardedFloats y(batch * channels * inner, offset);
  std::vector<float> wanted(y.size());
  cpu::group_norm(x.data(), batch, channels, inner, groups, parameters.weight, parameters.bias, 1e-3, wanted.data());
  cuda::group_norm(x.data(), batch, channels, inner, groups, parameters.weight, parameters.bias, 1e-3, y.data(), {});
  y.check_equals(wanted);
}

TEST_CASE("cuda group_norm: the bits of the CPU", "[cuda][normalization]") {
  emulation::in_every_order([] {
    for (int which = 0; which < 4; ++which) {
      for (const std::int64_t groups : {1, 2, 6}) {
        for (const std::int64_t inner : {1, 4, 35}) check_group(3, 6, inner, groups, which);
      }
    }
    check_group(0, 6, 4, 2, 3);
    check_group(300, 8, 5, 4, 3, 1);   // several rows to a block
    check_group(1, 4, 5003, 2, 3, 2);  // longer than a tile
  });
}

TEST_CASE("cuda normalisation: impossible shapes are refused as on the CPU", "[cuda][normalization][errors]") {
  const float x = 0.0F;
  float y = 0.0F;
  CHECK_THROWS_WITH(cuda::layer_norm(&x, 1, 0, nullptr, nullptr, 0.0, &y, {}), Catch::Contains("at least one value"));
  CHECK_THROWS_WITH(cuda::group_norm(&x, 1, 5, 1, 2, nullptr, nullptr, 0.0, &y, {}),
                    Catch::Contains("groups must divide the channels"));
}

}  // namespace
}  // namespace cimq::kernels::testing
