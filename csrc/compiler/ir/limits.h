// Limits that keep a hostile file from asking for absurd memory; far above what networks need.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cimq::compiler {

inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;  // of one value, per sample
inline constexpr std::size_t kMaxNodes = 1 << 16;
inline constexpr std::int64_t kMaxExtent = std::int64_t{1} << 16;     // of a kernel, stride, padding, group count
inline constexpr std::size_t kMaxInputs = 256;                        // of a node
inline constexpr std::size_t kMaxRank = 8;                            // dimensions of a value, without the batch
inline constexpr std::int64_t kMaxTiles = std::int64_t{1} << 20;      // of a network: a program may list each of them
inline constexpr std::int64_t kMaxCopied = std::int64_t{1} << 20;     // crossbars for copies, where there is no limit
inline constexpr std::int64_t kMaxBatch = std::int64_t{1} << 16;      // samples that a program computes together
inline constexpr std::int64_t kMaxCrossbars = std::int64_t{1} << 22;  // that a program uses, where there is no limit

}  // namespace cimq::compiler
