// Memory for intermediate images that is kept from call to call: fresh pages cost more than the work on them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cimq::ops {

/// What a thread keeps for each use at most; larger images get memory of their own.
inline constexpr std::int64_t kScratchBytes = std::int64_t{64} << 20;

/// What is kept at the same time, each in memory of its own.
enum class Scratch { kGradient, kLevels };

/// Images [N, C, H, W] in channels-last order with values left over from before, for use until the calling thread asks
/// for the same again. Nothing that outlives the call may refer to them.
at::Tensor scratch_images(Scratch use, at::IntArrayRef sizes, at::ScalarType type);

}  // namespace cimq::ops
