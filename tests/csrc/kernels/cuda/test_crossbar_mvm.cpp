// The crossbar product of the CUDA kernels, emulated, against the reference: the same bits.
#include <catch2/catch.hpp>
#include <optional>
#include <vector>

#include "emulation/run.h"
#include "kernels/cuda/aligned_bytes.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

using cuda::Converter;
using cuda::MvmLayer;

template <typename T>
void compare_emulated(const Case& c, const MvmLayer& layer, const std::vector<std::int8_t>& w,
                      const std::vector<std::uint8_t>& x, std::size_t skew) {
  const auto size = static_cast<std::size_t>(c.batch * c.outputs);
  CopiedLayer copied(layer, c.options.chip);
  AlignedBytes input(x.data(), x.size(), skew);
  std::vector<T> got(size * static_cast<std::size_t>(layer.chips()), T{77});
  cuda::crossbar_mvm(layer, copied.image(), reinterpret_cast<const std::uint8_t*>(input.data()), c.batch, got.data(),
                     accesses_of(c.options, c.first_access), {});
  std::vector<T> expected;
  for (int chip = 0; chip < layer.chips(); ++chip) {
    MvmOptions options = c.options;
    options.chip += static_cast<std::uint32_t>(chip);
    std::vector<T> of_chip(size);
    crossbar_mvm_reference({c.hardware, w.data(), c.outputs, c.inputs, options}, x.data(), c.batch, of_chip.data(),
                           c.first_access);
    expected.insert(expected.end(), of_chip.begin(), of_chip.end());
  }
  REQUIRE(got == expected);
}

/// What the cases had.
struct Seen {
  int computed = 0;
  int refused = 0;
  int converters[3] = {};
  int words = 0;
  int reads = 0;
  int reads_of_digits = 0;
  int ideal_reads = 0;
  int chips = 0;
  int mappings[3] = {};
  int by_column = 0;
  int apart = 0;
  int aligned = 0;
};

void run_emulated(Random& random, const Case& c, Seen& seen) {
  const int chips = random.chance(0.2) ? 2 : 1;
  INFO(c.text() << " chips " << chips);
  const auto w = random_weights(random, c.outputs * c.inputs, c.options.weight_bits);
  const auto x = random_activations(random, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
  std::optional<MvmLayer> layer;
  try {
    layer.emplace(MvmProblem{c.hardware, w.data(), c.outputs, c.inputs, c.options}, chips);
  } catch (const Error&) {
    ++seen.refused;
    std::vector<float> y(static_cast<std::size_t>(c.batch * c.outputs));
    REQUIRE_THROWS_AS(
        crossbar_mvm_reference({c.hardware, w.data(), c.outputs, c.inputs, c.options}, x.data(), c.batch, y.data()),
        Error);
    return;
  }
  ++seen.computed;
  ++seen.converters[static_cast<int>(layer->converter())];
  const bool reads = layer->cells() == cuda::Cells::kReads;
  seen.words += layer->cells() == cuda::Cells::kWords ? 1 : 0;
  seen.reads += reads ? 1 : 0;
  seen.reads_of_digits += reads && c.hardware.dac_bits > 4 && c.options.act_bits > 4 ? 1 : 0;
  seen.ideal_reads += reads && layer->plan().ideal ? 1 : 0;
  seen.chips += chips > 1 && layer->plan().varies ? 1 : 0;
  ++seen.mappings[static_cast<int>(c.hardware.mapping)];
  seen.by_column += layer->plan().by_column() ? 1 : 0;
  seen.apart += layer->plan().separate_columns ? 1 : 0;
  const std::size_t skew = random.chance(0.2) ? 3 : 0;
  seen.aligned += skew == 0 && layer->matrix(nullptr).aligned ? 1 : 0;
  if (layer->plan().exact) {
    compare_emulated<std::int32_t>(c, *layer, w, x, skew);
  } else {
    compare_emulated<float>(c, *layer, w, x, skew);
  }
}

TEST_CASE("random layers on the emulated tensor cores equal the reference bit for bit", "[cuda][mvm]") {
  Random random(21);
  Seen seen;
  for (int j = 0; j < 250; ++j) {
    Case c = random_case(random);
    // Rows of 16 bytes, and tiles that begin at such places, are copied as they lie.
    if (random.chance(0.4)) {
      c.inputs = 16 * random.integer(1, 5);
      c.hardware.rows =
          16 * static_cast<int>(random.integer(1, 3)) * (c.hardware.mapping == Mapping::kDifferentialRow ? 2 : 1);
    }
    run_emulated(random, c, seen);
  }
  CHECK(seen.computed > 150);
  for (const int converter : seen.converters) CHECK(converter > 20);
  for (const int mapping : seen.mappings) CHECK(mapping > 20);
  CHECK(seen.words > 20);
  CHECK(seen.reads > 25);
  CHECK(seen.reads_of_digits > 1);
  CHECK(seen.ideal_reads > 3);
  CHECK(seen.chips > 5);
  CHECK(seen.by_column > 5);
  CHECK(seen.apart > 10);
  CHECK(seen.aligned > 30);
}

TEST_CASE("layers of several blocks, chunks and whole chunks equal the reference on the emulated device",
          "[cuda][mvm]") {
  // More than 64 rows and lines; tiles of exactly 256 inputs, of more, and a rest.
  Random random(22);
  Seen seen;
  for (int j = 0; j < 8; ++j) {
    Case c = random_configuration(random);
    c.options.act_bits = static_cast<int>(random.integer(1, 4));
    c.outputs = random.integer(60, 90);
    c.inputs = j < 4 ? 300 : random.integer(257, 700);
    c.hardware.rows = (j < 4 ? 256 : 300) * (c.hardware.mapping == Mapping::kDifferentialRow ? 2 : 1);
    c.batch = j % 2 == 0 ? 70 : 3;
    add_column_ranges(random, c, c.outputs);
    run_emulated(random, c, seen);
  }
  CHECK(seen.computed > 4);
}

TEST_CASE("read noise on the emulated device is that of the reference for every width of the digits",
          "[cuda][mvm][reads]") {
  // 1-bit digits, squares of a byte, squares of two bytes; both models; columns one by one and in pairs.
  Random random(24);
  Seen seen;
  for (const int dac_bits : {1, 3, 4, 5, 7}) {
    for (const bool proportional : {false, true}) {
      for (const AdcPlacement placement : {AdcPlacement::kPerColumn, AdcPlacement::kDifferential}) {
        Case c;
        c.hardware = plain_hardware();
        c.hardware.rows = static_cast<int>(random.integer(5, 40));
        c.hardware.dac_bits = dac_bits;
        c.hardware.adc = {random.chance(0.3) ? std::nullopt : std::optional<int>(6), AdcRange::kFullScale, placement};
        c.hardware.cell.read = {"constant", 0.2};
        if (proportional) c.hardware.cell.read = {"proportional", 0.0, std::nullopt, 0.1};
        c.outputs = random.integer(1, 20);
        c.inputs = random.integer(1, 60);
        c.batch = random.integer(1, 70);
        c.first_access = static_cast<std::uint64_t>(random.integer(0, std::int64_t{1} << 47));
        c.options.first_output = random.integer(0, 1000);
        c.options.seed = static_cast<std::uint64_t>(random.integer(0, std::int64_t{1} << 62));
        c.options.layer = static_cast<std::uint32_t>(random.integer(0, 9));
        c.options.chip = static_cast<std::uint32_t>(random.integer(0, 9));
        run_emulated(random, c, seen);
      }
    }
  }
  CHECK(seen.computed == 20);
  CHECK(seen.reads == 20);
}

TEST_CASE("read noise follows seed, chip, layer, output and access", "[cuda][mvm][reads]") {
  Random random(25);
  Hardware hw = plain_hardware();
  hw.cell.read = {"constant", 0.5};
  const auto w = random_weights(random, 8 * 20, 8);
  const auto x = random_activations(random, 4 * 20, 8, false);
  const MvmLayer layer({hw, w.data(), 8, 20, {}});
  REQUIRE(!layer.plan().exact);
  const auto product = [&](std::uint32_t chip, const cuda::Accesses& accesses) {
    CopiedLayer copied(layer, chip);
    std::vector<float> y(4 * 8);
    cuda::crossbar_mvm(layer, copied.image(), x.data(), 4, y.data(), accesses, {});
    return y;
  };
  const std::vector<float> y = product(0, {});
  CHECK(product(0, {}) == y);
  CHECK(product(1, {}) != y);
  CHECK(product(0, {1, 0, 0, 0}) != y);
  CHECK(product(0, {0, 1, 0, 0}) != y);
  CHECK(product(0, {0, 0, 8, 0}) != y);
  const std::vector<float> later = product(0, {0, 0, 0, 1});
  CHECK(later != y);
}

TEST_CASE("the result does not depend on the order in which an emulated device runs its threads", "[cuda][mvm]") {
  Case c;
  c.hardware = plain_hardware();
  c.hardware.adc = {5, AdcRange::kFullScale, AdcPlacement::kDifferential};
  c.outputs = 40;
  c.inputs = 80;
  c.batch = 66;
  emulation::in_every_order([&] {
    Random random(23);
    Seen seen;
    run_emulated(random, c, seen);
    CHECK(seen.converters[static_cast<int>(Converter::kShifted)] == 1);
  });
}

TEST_CASE("the CUDA layer refuses impossible chips, an empty batch does nothing", "[cuda][mvm][errors]") {
  const std::vector<std::int8_t> w{1, -1};
  const Hardware hw = plain_hardware();
  CHECK_THROWS_WITH(MvmLayer({hw, w.data(), 1, 2, {}}, 0), Catch::Contains("chips must be at least 1, got 0"));
  const MvmLayer layer({hw, w.data(), 1, 2, {}});
  CopiedLayer copied(layer);
  cuda::crossbar_mvm(layer, copied.image(), nullptr, 0, nullptr, {}, {});
  CHECK_THROWS_WITH(cuda::crossbar_mvm(layer, copied.image(), nullptr, -1, nullptr, {}, {}),
                    Catch::Contains("batch must be at least 0, got -1"));
}

}  // namespace
}  // namespace cimq::kernels::testing
