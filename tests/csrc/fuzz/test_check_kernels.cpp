// The body of the fuzzing on a few hundred fixed inputs, where no fuzzer is at hand.
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <vector>

#include "check_kernels.h"

namespace cimq::kernels::testing {

TEST_CASE("layers made from bytes are the same on every instruction set", "[fuzz]") {
  std::mt19937 generator(7);
  int computed = 0;
  for (int j = 0; j < 600; ++j) {
    std::vector<std::uint8_t> bytes(j % 90);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
    INFO("input " << j);
    if (check_kernels(bytes.data(), bytes.size())) ++computed;
  }
  CHECK(computed > 300);
}

}  // namespace cimq::kernels::testing
