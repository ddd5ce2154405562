// The body of the fuzzing on a few hundred inputs, where no fuzzer is at hand, and for a stated time.
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

#include "../kernels/kernel_sets.h"
#include "check_kernels.h"

namespace cimq::kernels::testing {

TEST_CASE("layers made from bytes are the same on every instruction set", "[fuzz]") {
  std::mt19937 generator(7 + Catch::rngSeed());
  int computed = 0;
  for (int j = 0; j < 600; ++j) {
    std::vector<std::uint8_t> bytes(j % 90);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
    INFO("input " << j);
    if (check_kernels(bytes.data(), bytes.size())) ++computed;
  }
  CHECK(computed > 300);
}

// Part of `make soak`: hidden, so that a run of all tests takes no longer. --rng-seed N repeats a run.
TEST_CASE("layers made from fresh bytes for CIMQ_SOAK_SECONDS", "[.][soak]") {
  const char* const text = std::getenv("CIMQ_SOAK_SECONDS");
  const auto time = std::chrono::duration<double>(text == nullptr ? 1.0 : std::strtod(text, nullptr));
  const auto start = std::chrono::steady_clock::now();
  std::mt19937 generator(Catch::rngSeed());
  std::int64_t computed = 0;
  for (std::int64_t j = 0; std::chrono::steady_clock::now() - start < time; ++j) {
    std::vector<std::uint8_t> bytes(generator() % 256U);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
    INFO("--rng-seed " << Catch::rngSeed() << ", input " << j);
    if (check_kernels(bytes.data(), bytes.size())) ++computed;
  }
  CHECK(computed > 0);
  for (const KernelSet& set : kernel_sets()) {
    std::cout << "soak: " << computed << " layers on " << set.name << "\n";
  }
}

}  // namespace cimq::kernels::testing
