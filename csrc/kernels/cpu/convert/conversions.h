// conversions.h on the processor. Nothing of [batch, outputs, slices, tiles, digits] is ever stored: currents are made
// block by block and reduced at once.
//
// All functions need a converter (plan.ideal is false) and a CrossbarMvm made with allow_collapse = false; they throw
// cimq::Error otherwise, as they do for activations outside act_bits. They work on the calling thread and are
// thread-safe; apart from the last bits of squared_error the results do not depend on how a batch is split.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/conversions.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"

namespace cimq::kernels::cpu {

/// Counts every conversion that x [batch, inputs] causes, one entry per weight slice; row b is access first_access + b.
/// Both columns of a pair that are converted on their own count. batch = 0 gives counters of zero.
std::vector<SliceConversions> count_conversions(const CrossbarMvm& mvm, const std::uint8_t* x, std::int64_t batch,
                                                std::uint64_t first_access = 0);

/// The rows [begin, end) of x [rows, inputs]; row b is access first_access + b.
void shares_of_conversions(const CrossbarMvm& mvm, const std::uint8_t* x, std::int64_t begin, std::int64_t end,
                           const ConversionShares& out, std::uint64_t first_access = 0);

}  // namespace cimq::kernels::cpu
