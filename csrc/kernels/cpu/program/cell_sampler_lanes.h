// The sampler of an instruction set (cell_sampler.h), from what its vectors can do: as many blocks of Philox at once as
// a vector has lanes, then as many interpolations. Included inside the target region of its user, after a struct Lanes:
//   kCount, Words          32-bit lanes; a multiple of four, and the vector
//   set, load, add, sub, both (and), either (or), differ (xor), at_least, at_most (signed), signs (all bits the sign)
//   left, right            logical shifts, by a constant or by lanes; rounded<bits>: + half, arithmetic right shift
//   multiply(a, factor)    both halves of unsigned 64-bit products
//   scaled(a, b, shift)    (a * b) >> shift, arithmetic: of signed 32-bit lanes, results that fit them, shift <= 26
//   top_bit(v)             number of the highest set bit, v > 0
//   look_up(table, index)  table[index] of each lane
//   Table                  of one number per level: made of a table and its length, called with levels
//   order, transpose       see draw(); levels(bytes), store(int16s): in memory
#pragma once

#include <cstdint>

#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/cpu/program/cell_sampler.h"
#include "kernels/noise/cell_noise.h"

namespace cimq::kernels::cpu {
namespace {

using LaneWords = Lanes::Words;

/// philox4x32 of the kCount blocks from `block` on, whose low halves do not overflow: the words of kCount / 4 blocks in
/// each vector. Lane 4L + k draws block (kCount / 4) * k + L, so that transposing each four lanes puts blocks in order.
inline void draw(const CellStream& stream, std::uint64_t block, LaneWords (&words)[4]) {
  const std::uint32_t packed = static_cast<std::uint32_t>(block >> 32) |
                               (static_cast<std::uint32_t>(stream.slice) << 16) |
                               (static_cast<std::uint32_t>(CellPurpose::kProgramming) << 24);
  const PhiloxKey key = philox_key(stream.seed);
  LaneWords c0 = Lanes::add(Lanes::set(static_cast<std::uint32_t>(block)), Lanes::order());
  LaneWords c1 = Lanes::set(packed);
  LaneWords c2 = Lanes::set(stream.layer);
  LaneWords c3 = Lanes::set(stream.chip);
  std::uint32_t key0 = key.word[0];
  std::uint32_t key1 = key.word[1];
  const LaneWords factor0 = Lanes::set(kPhiloxMultiplier0);
  const LaneWords factor1 = Lanes::set(kPhiloxMultiplier1);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const auto product0 = Lanes::multiply(c0, factor0);
    const auto product1 = Lanes::multiply(c2, factor1);
    c0 = Lanes::differ(Lanes::differ(product1.high, c1), Lanes::set(key0));
    c1 = product1.low;
    c2 = Lanes::differ(Lanes::differ(product0.high, c3), Lanes::set(key1));
    c3 = product0.low;
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
  Lanes::transpose(words);
}

/// quantile_sample of each lane, with the table that begins at `offset`.
inline LaneWords sample(const std::int32_t* nodes, LaneWords offset, LaneWords word) {
  const LaneWords one = Lanes::set(1);
  const LaneWords upper = Lanes::signs(word);
  const LaneWords v = Lanes::differ(word, upper);
  const LaneWords shift =
      Lanes::at_least(Lanes::sub(Lanes::top_bit(Lanes::either(v, one)), Lanes::set(kQuantileSubBits)), Lanes::set(0));
  LaneWords index = Lanes::add(Lanes::left(shift, Lanes::set(kQuantileSubBits)), Lanes::right(v, shift));
  index = Lanes::add(index, Lanes::both(upper, Lanes::set(kQuantileNodes)));
  index = Lanes::add(index, offset);
  const LaneWords node = Lanes::look_up(nodes, index);
  const LaneWords step = Lanes::sub(Lanes::look_up(nodes + 1, index), node);
  const LaneWords fraction = Lanes::both(v, Lanes::sub(Lanes::left(one, shift), one));
  const LaneWords value = Lanes::add(node, Lanes::scaled(step, fraction, shift));
  return Lanes::template rounded<kQuantileFractionBits>(value);
}

inline void sample_cells(const CellStream& stream, std::uint64_t block, std::int64_t cells, const std::uint8_t* levels,
                         std::int16_t* values) {
  constexpr int kBlocks = Lanes::kCount;
  static_assert(kSampledAtOnce % (4 * kBlocks) == 0);
  const Lanes::Table offsets(stream.offsets, stream.levels);
  const Lanes::Table fixed(stream.fixed, stream.levels);
  for (std::int64_t cell = 0; cell < cells; cell += 4 * kBlocks, block += kBlocks) {
    LaneWords words[4];
    if (static_cast<std::uint32_t>(block) <= 0xffffffffU - kBlocks) {
      draw(stream, block, words);
    } else {
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
