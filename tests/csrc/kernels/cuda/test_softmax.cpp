// The CUDA kernels of softmax, emulated, against those of the CPU: the same bits.
#include <catch2/catch.hpp>
#include <limits>
#include <vector>

#include "emulation/run.h"
#include "kernels/cuda/guarded_floats.h"
#include "kernels/softmax.h"

namespace cimq::kernels::testing {
namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();

void check(std::int64_t outer, std::int64_t n, std::int64_t inner, std::size_t offset = 0) {
  for (const bool logarithm : {false, true}) {
    INFO("softmax of " << outer << " " << n << " " << inner << ", logarithm " << logarithm);
    GuardedFloats x(outer * n * inner, offset);
    x.fill(0.043);
    const float special[] = {kInfinite, -kInfinite, std::nanf(""), -0.0F, 0.0F, -kInfinite, 3e38F, -3e38F};
    // Some lines have one of them, and some several.
    for (std::size_t i = 0; i < std::size(special) && 13 * i < x.size() / 2; ++i) x[13 * i] = special[i];
    GuardedFloats y(outer * n * inner, offset);
    std::vector<float> wanted(y.size());
    cpu::softmax(x.data(), outer, n, inner, logarithm, wanted.data());
    cuda::softmax(x.data(), outer, n, inner, logarithm, y.data(), {});
    y.check_equals(wanted);
  }
}

TEST_CASE("cuda softmax: the bits of the CPU", "[cuda][softmax]") {
  emulation::in_every_order([] {
    for (const std::int64_t inner : {1, 3, 57}) {
      for (const std::int64_t n : {0, 1, 2, 10, 33, 197}) {
        for (const std::int64_t outer : {0, 1, 5}) check(outer, n, inner);
      }
    }
    check(1, 4097, 1, 1);  // longer than a tile
    check(2, 9000, 1);
    check(600, 40, 1, 2);  // several rows to a block
    check(1100, 37, 1, 3);
    check(17000, 3, 1);
  });
}

TEST_CASE("cuda softmax: lines of one special value", "[cuda][softmax]") {
  for (const float value : {kInfinite, -kInfinite, std::nanf(""), -0.0F, 3e38F}) {
    for (const std::int64_t inner : {1, 2}) {
      for (const bool logarithm : {false, true}) {
        GuardedFloats x(3 * 5 * inner);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = value;
        GuardedFloats y(3 * 5 * inner);
        std::vector<float> wanted(y.size());
        cpu::softmax(x.data(), 3, 5, inner, logarithm, wanted.data());
        cuda::softmax(x.data(), 3, 5, inner, logarithm, y.data(), {});
        y.check_equals(wanted);
      }
    }
  }
}

}  // namespace
}  // namespace cimq::kernels::testing
