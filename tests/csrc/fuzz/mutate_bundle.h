// Changes a bundle that a fuzzer works on: values within its JSON, lines of its program, bytes of its tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "bundle_input.h"

namespace cimq::testing {

/// Changes some bytes in place: (data, size, largest size) -> size.
using MutateBytes = std::function<std::size_t(std::uint8_t*, std::size_t, std::size_t)>;

/// One to three changes. Most keep JSON well-formed, so that what is behind the parser is reached; the others are left
/// to `bytes`, which knows nothing of it. The same for the same seed.
void mutate_bundle(BundleInput& bundle, std::uint32_t seed, const MutateBytes& bytes);

}  // namespace cimq::testing
