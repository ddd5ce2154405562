// The samplers of the instruction sets against the formulas, draw by draw.
#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "common/quantile_table.h"
#include "every_isa.h"
#include "kernels/cpu/tile/dispatch.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/read_noise.h"
#include "random_case.h"

namespace cimq::kernels::testing {
namespace {

std::uint32_t word(Random& random) { return static_cast<std::uint32_t>(random.integer(0, 0xFFFFFFFFLL)); }

}  // namespace

TEST_CASE("cells sampled in vectors are those of the formula", "[samplers]") {
  const QuantileTable table = QuantileTable::gaussian(3.5, 400.0);
  on_every_isa([&] {
    const cpu::CellSampler sampler = cpu::active_kernels().sampler;
    if (sampler == nullptr) return;
    Random random(51);
    for (int j = 0; j < 60; ++j) {
      const int levels = j % 3 == 0 ? 64 : (j % 3 == 1 ? 16 : 4);  // looked up in memory, or in a register
      const std::vector<std::int32_t> offsets(static_cast<std::size_t>(levels), 0);
      std::vector<std::int32_t> fixed;
      for (int level = 0; level < levels; ++level) fixed.push_back(level * 512 - 100);
      const cpu::CellStream stream{std::uint64_t{word(random)} << 32 | word(random),
                                   word(random),
                                   word(random),
                                   j % 8,
                                   table.nodes().data(),
                                   offsets.data(),
                                   fixed.data(),
                                   levels};
      // Every fifth run goes over the end of the lower half of a block's number.
      const std::uint64_t block = (std::uint64_t{word(random)} & 0x7FFFU) << 32 |
                                  (j % 5 == 0 ? 0xFFFFFFFFU - static_cast<std::uint32_t>(j % 40) : word(random));
      constexpr std::size_t kCells = 3 * cpu::kSampledAtOnce;
      std::array<std::uint8_t, kCells> level;
      for (std::uint8_t& value : level) value = static_cast<std::uint8_t>(random.integer(0, levels - 1));
      std::array<std::int16_t, kCells> got{};
      sampler(stream, block, kCells, level.data(), got.data());
      for (std::size_t c = 0; c < kCells; ++c) {
        const PhiloxCounter words =
            cell_words(stream.seed, stream.chip, stream.layer, stream.slice, CellPurpose::kProgramming, block + c / 4);
        REQUIRE(got[c] == clamped_conductance(fixed[level[c]] + table.sample(words.word[c % 4])));
      }
    }
  });
}

TEST_CASE("read noise added in vectors is that of the formula", "[samplers][read]") {
  on_every_isa([&] {
    const cpu::ColumnNoiseAdder add = cpu::active_kernels().noise;
    if (add == nullptr) return;
    Random random(52);
    for (int bits = 0; bits <= kMaxSampleBits; ++bits) {
      const QuantileTable table = QuantileTable::gaussian(0.0, random.real(1.0, 15000.0));
      for (int j = 0; j < 16; ++j) {
        const bool proportional = j % 2 == 0;
        const int width = cpu::kLaneWidth * (1 + j / 4);
        const int digit = static_cast<int>(random.integer(0, 7));
        const int slice = static_cast<int>(random.integer(0, 7));
        std::vector<std::int32_t> variances;
        for (int o = 0; o < width; ++o) variances.push_back(static_cast<std::int32_t>(word(random) >> (1 + j)));
        const std::int64_t variance = random.integer(0, (1LL << 36) - 1) >> j;
        cpu::ColumnStream stream{};
        for (std::uint32_t& part : stream.key.word) part = word(random);
        stream.tile = static_cast<std::uint32_t>(random.integer(0, 9));
        stream.place = column_place(digit, slice);
        stream.column = static_cast<std::uint64_t>(random.integer(0, 1000));
        stream.step = j / 2 % 2 + 1;
        stream.nodes = table.nodes().data();
        stream.sample_bits = bits;
        stream.variances = proportional ? variances.data() : nullptr;
        stream.root = static_cast<std::int32_t>(column_root(variance));
        std::vector<std::int32_t> got(static_cast<std::size_t>(width) + 1, -7);
        add(stream, got.data(), width);
        REQUIRE(got.back() == -7);
        for (int o = 0; o < width; ++o) {
          const std::uint64_t column = stream.column + static_cast<std::uint64_t>(stream.step * o);
          const PhiloxCounter words = column_words(stream.key, column >> 2, stream.tile, digit, slice);
          const auto at = static_cast<std::size_t>(o);
          const std::int64_t noise =
              column_noise(proportional ? variances[at] : variance, table.sample(words.word[column & 3U]), bits);
          REQUIRE(got[at] == static_cast<std::int32_t>(-7 + noise));  // modulo 2^32 where it does not fit
        }
      }
    }
  });
}

}  // namespace cimq::kernels::testing
