// Choice of the instruction set at run time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {

/// Kernels that were built and that this machine can run, best first. The last is "scalar".
const std::vector<TileKernels>& available_kernels();

/// The kernels in use: the best available ones, or those that the environment variable CIMQ_CPU_ISA names
/// (read once). Throws cimq::Error if it names an unknown or unavailable instruction set.
const TileKernels& active_kernels();

/// The best available kernels if `wanted` is null or empty, else those of that name (as kernels_named).
const TileKernels& choose_kernels(const char* wanted);

/// Finds available kernels by name; throws cimq::Error with the names to choose from.
const TileKernels& kernels_named(std::string_view isa);

/// Runs every following MVM of this process on `isa`; empty: back to the choice made at start. For tests and
/// measurements: not synchronised with running MVMs.
void force_isa(std::string_view isa);

}  // namespace cimq::kernels::cpu
