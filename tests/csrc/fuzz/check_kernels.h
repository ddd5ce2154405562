// One case of the differential fuzzing: a layer from some bytes, on every instruction set and by the reference.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cimq::kernels::testing {

/// Throws std::logic_error with the case's text where a kernel and the reference differ, in a result or in whether they
/// refuse the configuration. Returns false for a configuration that both refuse.
bool check_kernels(const std::uint8_t* data, std::size_t size);

}  // namespace cimq::kernels::testing
