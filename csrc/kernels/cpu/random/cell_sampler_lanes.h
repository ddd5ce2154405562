// The sampler of cells (cell_sampler.h) with the vectors of an instruction set. Included inside the target region of
// its user, after random_lanes.h; Lanes needs besides:
//   Table                  one number per level: made of a table and its length, called with levels
//   levels(p)              kCount bytes; store(p, value): int16, of values that fit
#pragma once

#include <cstdint>

#include "kernels/cpu/random/cell_sampler.h"
#include "kernels/cpu/random/random_lanes.h"
#include "kernels/noise/cell_noise.h"

namespace cimq::kernels::cpu {
namespace {

inline void sample_cells(const CellStream& stream, std::uint64_t block, std::int64_t cells, const std::uint8_t* levels,
                         std::int16_t* values) {
  constexpr int kBlocks = Lanes::kCount;
  static_assert(kSampledAtOnce % (4 * kBlocks) == 0);
  const PhiloxKey key = philox_key(stream.seed);
  const std::uint32_t place =
      (static_cast<std::uint32_t>(stream.slice) << 16) | (static_cast<std::uint32_t>(CellPurpose::kProgramming) << 24);
  const Lanes::Table offsets(stream.offsets, stream.levels);
  const Lanes::Table fixed(stream.fixed, stream.levels);
  for (std::int64_t cell = 0; cell < cells; cell += 4 * kBlocks, block += kBlocks) {
    LaneWords words[4];
    if (static_cast<std::uint32_t>(block) <= 0xffffffffU - kBlocks) {
      draw(key, static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32) | place, stream.layer,
           stream.chip, words);
    } else {  // the upper half of the block's number changes on the way
      for (std::uint64_t j = 0; j < kBlocks; ++j) {
        const PhiloxCounter four =
            cell_words(stream.seed, stream.chip, stream.layer, stream.slice, CellPurpose::kProgramming, block + j);
        __builtin_memcpy(reinterpret_cast<char*>(words) + j * sizeof four, &four, sizeof four);
      }
    }
    for (int j = 0; j < 4; ++j) {
      const std::int64_t at = cell + kBlocks * j;
      const LaneWords level = Lanes::levels(levels + at);
      LaneWords value = Lanes::add(fixed(level), sample(stream.nodes, offsets(level), words[j]));
      value = Lanes::at_most(Lanes::at_least(value, Lanes::set(0)), Lanes::set(kMaxConductance));
      Lanes::store(values + at, value);
    }
  }
}

}  // namespace
}  // namespace cimq::kernels::cpu
