// Random layers on random hardware, and the comparison of the kernels with the reference.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "common/error.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "kernels/plan/conv2d_geometry.h"
#include "layer_case.h"

namespace cimq::kernels::testing {

/// The same numbers in every run; with --rng-seed N (`make soak`) those of another world.
class Random {
 public:
  explicit Random(std::uint32_t seed) : generator_(seed + 0x9E3779B9U * Catch::rngSeed()) {}
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(generator_);
  }
  bool chance(double p) { return std::bernoulli_distribution(p)(generator_); }
  double real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(generator_); }

 private:
  std::mt19937 generator_;
};

/// Kernel, strides, borders and dilations of a convolution.
inline void draw_window(Random& random, Conv2dGeometry& g) {
  g.kernel_h = random.integer(1, 3);
  g.kernel_w = random.integer(1, 4);
  g.stride_h = random.integer(1, 3);
  g.stride_w = random.integer(1, 2);
  g.pad_top = random.integer(0, 2);
  g.pad_bottom = random.integer(0, 2);
  g.pad_left = random.integer(0, 3);
  g.pad_right = random.integer(0, 2);
  g.dilation_h = random.integer(1, 2);
  g.dilation_w = random.integer(1, 3);
}

/// 16 rows, 2-bit cells, 1-bit drivers.
inline Hardware plain_hardware() {
  Hardware hw;
  hw.rows = 16;
  hw.cell_bits = 2;
  hw.dac_bits = 1;
  return hw;
}

template <typename T>
void compare(const Case& c, const cpu::CrossbarMvm& mvm, const std::vector<std::int8_t>& w,
             const std::vector<std::uint8_t>& x) {
  const auto size = static_cast<std::size_t>(c.batch * c.outputs);
  std::vector<T> got(size);
  std::vector<T> expected(size);
  mvm.run(x.data(), c.batch, got.data(), c.first_access);
  crossbar_mvm_reference({c.hardware, w.data(), c.outputs, c.inputs, c.options}, x.data(), c.batch, expected.data(),
                         c.first_access);
  REQUIRE(got == expected);
}

/// Runs one case on the active kernels; false if the configuration is refused (by both sides alike).
inline bool run_case(const Case& c, const std::vector<std::int8_t>& w, const std::vector<std::uint8_t>& x) {
  INFO(c.text());
  std::optional<cpu::CrossbarMvm> mvm;
  try {
    mvm.emplace(MvmProblem{c.hardware, w.data(), c.outputs, c.inputs, c.options});
  } catch (const Error&) {
    std::vector<float> y(static_cast<std::size_t>(c.batch * c.outputs));
    REQUIRE_THROWS_AS(
        crossbar_mvm_reference({c.hardware, w.data(), c.outputs, c.inputs, c.options}, x.data(), c.batch, y.data()),
        Error);
    return false;
  }
  if (mvm->exact()) {
    compare<std::int32_t>(c, *mvm, w, x);
  } else {
    compare<float>(c, *mvm, w, x);
  }
  return true;
}

}  // namespace cimq::kernels::testing
