// One case of the fuzzing of readers: a bundle from some bytes is refused with an Error, or runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cimq::testing {

/// Loads the bundle as cimq-run does (sizes and hashes apart), runs one sample and compares the stored results.
/// Whatever is no Error leaves this function. Returns whether the bundle was loaded.
bool check_bundle(const std::uint8_t* data, std::size_t size);

/// Reads the bundle's program, verifies, simulates and interprets it. A program that is accepted must compute, layer by
/// layer, what the executor computes: throws std::logic_error where it does not. Returns whether it was accepted.
bool check_program(const std::uint8_t* data, std::size_t size);

}  // namespace cimq::testing
