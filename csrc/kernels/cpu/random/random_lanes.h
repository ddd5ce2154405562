// Random words and quantiles with the vectors of an instruction set. Included inside the target region of its user,
// after a struct Lanes that says what its vectors can do:
//   kCount, Words          32-bit lanes; a multiple of four, and the vector
//   set, load, keep, add, sub, both (and), either (or), differ (xor), at_least, at_most (signed), signs (all bits the
//   sign)
//   left, right            logical shifts by lanes; rounded<bits>(a): (a + half) >> bits, arithmetic
//   multiply(a, factor)    both halves of unsigned 64-bit products
//   scaled(a, b, shift)    (a * b) >> shift, arithmetic: of signed lanes, results that fit them, shift <= 26
//   top_bit(v)             number of the highest set bit, v > 0
//   neighbours(table, index)  table[index] and table[index + 1] of each lane: .first, .second
//   order, transpose       see draw()
#pragma once

#include <cstdint>

#include "common/philox.h"
#include "common/quantile_table.h"

namespace cimq::kernels::cpu {
namespace {

using LaneWords = Lanes::Words;

/// philox4x32 of the kCount counters (block .. block + kCount - 1, c1, c2, c3), the first modulo 2^32: the words of
/// kCount / 4 of them in each vector. Lane 4L + k draws block + (kCount / 4) * k + L, so that transposing each four
/// lanes puts the blocks in order.
inline void draw(PhiloxKey key, std::uint32_t block, std::uint32_t word1, std::uint32_t word2, std::uint32_t word3,
                 LaneWords (&words)[4]) {
  LaneWords c0 = Lanes::add(Lanes::set(block), Lanes::order());
  LaneWords c1 = Lanes::set(word1);
  LaneWords c2 = Lanes::set(word2);
  LaneWords c3 = Lanes::set(word3);
  const LaneWords factor0 = Lanes::set(kPhiloxMultiplier0);
  const LaneWords factor1 = Lanes::set(kPhiloxMultiplier1);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const auto product0 = Lanes::multiply(c0, factor0);
    const auto product1 = Lanes::multiply(c2, factor1);
    c0 = Lanes::differ(Lanes::differ(product1.high, c1), Lanes::set(key.word[0]));
    c1 = product1.low;
    c2 = Lanes::differ(Lanes::differ(product0.high, c3), Lanes::set(key.word[1]));
    c3 = product0.low;
    key.word[0] += kPhiloxWeyl0;
    key.word[1] += kPhiloxWeyl1;
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
  const auto around = Lanes::neighbours(nodes, index);
  const LaneWords node = around.first;
  const LaneWords step = Lanes::sub(around.second, node);
  const LaneWords fraction = Lanes::both(v, Lanes::sub(Lanes::left(one, shift), one));
  const LaneWords value = Lanes::add(node, Lanes::scaled(step, fraction, shift));
  return Lanes::template rounded<kQuantileFractionBits>(value);
}

}  // namespace
}  // namespace cimq::kernels::cpu
