// Read noise (column_noise.h) with the vectors of an instruction set. Included inside the target region of its user,
// after random_lanes.h; Lanes needs besides:
//   root(v)                         integer_sqrt(v << 16), v >= 0
//   rounded_product(a, b, shift)    (a * b + 2^(shift-1)) >> shift, arithmetic, shift <= 38: of signed lanes whose
//                                   products are below 2^61, results that fit them
#pragma once

#include <cstdint>

#include "kernels/cpu/random/column_noise.h"
#include "kernels/cpu/random/random_lanes.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels::cpu {
namespace {

template <int kStep>
inline void add_noise(const ColumnStream& stream, std::int32_t* currents, int width) {
  // The first column need not begin a block; blocks are drawn by whole vectors.
  constexpr int kMostBlocks = kStep * kMaxNoisyColumns / 4 + 1 + Lanes::kCount;
  const auto skipped = static_cast<int>(stream.column & 3U);
  const auto first = static_cast<std::uint32_t>(stream.column >> 2);
  const int blocks = (skipped + kStep * (width - 1)) / 4 + 1;
  std::int32_t words[4 * kMostBlocks];
  for (int done = 0; done < blocks; done += Lanes::kCount) {
    LaneWords drawn[4];
    draw({{stream.key.word[0], stream.key.word[1]}}, first + static_cast<std::uint32_t>(done), stream.tile,
         stream.place, stream.key.word[3], drawn);
    for (int j = 0; j < 4; ++j) Lanes::keep(words + 4 * done + j * Lanes::kCount, drawn[j]);
  }
  if constexpr (kStep > 1) {
    for (int j = 0; j < width; ++j) words[skipped + j] = words[skipped + kStep * j];
  }
  const LaneWords none = Lanes::set(0);
  for (int j = 0; j < width; j += Lanes::kCount) {
    const LaneWords z = sample(stream.nodes, none, Lanes::load(words + skipped + j));
    const LaneWords root = stream.variances != nullptr ? Lanes::root(Lanes::load(stream.variances + j))
                                                       : Lanes::set(static_cast<std::uint32_t>(stream.root));
    const LaneWords noise = Lanes::rounded_product(root, z, kRootFractionBits + stream.sample_bits);
    Lanes::keep(currents + j, Lanes::add(Lanes::load(currents + j), noise));
  }
}

inline void add_column_noise(const ColumnStream& stream, std::int32_t* currents, int width) {
  stream.step == 1 ? add_noise<1>(stream, currents, width) : add_noise<2>(stream, currents, width);
}

}  // namespace
}  // namespace cimq::kernels::cpu
