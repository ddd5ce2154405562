// Programming noise of many cells at once: the words and the interpolation of cell_noise.h, vector by vector.
#pragma once

#include <cstdint>

namespace cimq::kernels::cpu {

/// Where the words of cells come from and what they mean; `nodes`, `offsets` and `fixed` as CellTables has them.
struct CellStream {
  std::uint64_t seed;
  std::uint32_t chip;
  std::uint32_t layer;
  int slice;
  const std::int32_t* nodes;
  const std::int32_t* offsets;
  const std::int32_t* fixed;
  int levels;
};

/// Cells that a sampler takes at once.
constexpr std::int64_t kSampledAtOnce = 64;

/// Conductances in 1/256 level of `cells` cells from 4 * block on. `cells` is a multiple of kSampledAtOnce.
using CellSampler = void (*)(const CellStream& stream, std::uint64_t block, std::int64_t cells,
                             const std::uint8_t* levels, std::int16_t* values);

}  // namespace cimq::kernels::cpu
