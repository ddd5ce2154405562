#include <catch2/catch.hpp>

#include "common/philox.h"

namespace {

void check_words(const cimq::PhiloxCounter& got, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  CHECK(got.word[0] == a);
  CHECK(got.word[1] == b);
  CHECK(got.word[2] == c);
  CHECK(got.word[3] == d);
}

}  // namespace

// Known-answer vectors of the Random123 distribution (tests/kat_vectors, philox4x32 10 rounds).
TEST_CASE("philox4x32-10 gives Random123's known answers", "[philox]") {
  check_words(cimq::philox4x32({{0, 0, 0, 0}}, {{0, 0}}), 0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U);
  check_words(cimq::philox4x32({{0xffffffffU, 0xffffffffU, 0xffffffffU, 0xffffffffU}}, {{0xffffffffU, 0xffffffffU}}),
              0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU);
  check_words(cimq::philox4x32({{0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}}, {{0xa4093822U, 0x299f31d0U}}),
              0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U);
}

TEST_CASE("a philox key is the seed, low word first", "[philox]") {
  const cimq::PhiloxKey key = cimq::philox_key(0x299f31d0a4093822U);
  CHECK(key.word[0] == 0xa4093822U);
  CHECK(key.word[1] == 0x299f31d0U);
}
