// What converters do, as the emulated device finds it, against the kernels of the processor: the same bits of shares,
// the same counters.
#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "emulation/run.h"
#include "kernels/cpu/convert/conversions.h"
#include "kernels/cuda/aligned_bytes.h"
#include "kernels/cuda/conversions.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

using cuda::MvmLayer;

/// Several matrices of one layer, each with rows of its own.
struct Groups {
  Case c;
  int groups = 1;
  int chips = 1;
  std::vector<std::int8_t> w;   // [groups, outputs, inputs]
  std::vector<std::uint8_t> x;  // [groups, batch, inputs]

  MvmProblem problem(int group, int chip) const {
    MvmOptions options = c.options;
    options.first_output += group * c.outputs;
    options.chip += static_cast<std::uint32_t>(chip);
    return {c.hardware, w.data() + group * c.outputs * c.inputs, c.outputs, c.inputs, options};
  }
  MvmLayer layer() const {
    std::vector<MvmProblem> problems;
    for (int group = 0; group < groups; ++group) problems.push_back(problem(group, 0));
    return MvmLayer(problems, chips);
  }
  const std::uint8_t* rows(int group) const { return x.data() + group * c.batch * c.inputs; }
};

struct Shares {
  std::vector<float> pass;
  std::vector<float> step;
};

std::size_t pass_size(const Case& c, const MvmPlan& plan) {
  return static_cast<std::size_t>(plan.row_tiles * converted_columns(plan) * plan.n_w * c.batch * c.outputs);
}
std::size_t step_size(const Case& c, const MvmPlan& plan) {
  return static_cast<std::size_t>(plan.n_w * c.batch * c.outputs);
}

Shares shares_on_host(const Groups& groups, const MvmPlan& plan) {
  const Case& c = groups.c;
  Shares all;
  for (int chip = 0; chip < groups.chips; ++chip) {
    for (int group = 0; group < groups.groups; ++group) {
      const cpu::CrossbarMvm mvm(groups.problem(group, chip));
      Shares one{std::vector<float>(pass_size(c, plan)), std::vector<float>(step_size(c, plan))};
      cpu::shares_of_conversions(mvm, groups.rows(group), 0, c.batch, {c.batch, one.pass.data(), one.step.data()},
                                 c.first_access);
      all.pass.insert(all.pass.end(), one.pass.begin(), one.pass.end());
      all.step.insert(all.step.end(), one.step.begin(), one.step.end());
    }
  }
  return all;
}

/// Bits, so that a zero's sign counts.
std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

struct Counted {
  std::vector<std::int64_t> codes;
  std::vector<std::int64_t> clipped;
  std::vector<std::int64_t> currents;
  std::vector<double> errors;
};

Counted nothing_counted(const MvmPlan& plan) {
  const auto slices = static_cast<std::size_t>(plan.n_w);
  Counted none{std::vector<std::int64_t>(slices * static_cast<std::size_t>(plan.levels)),
               std::vector<std::int64_t>(2 * slices), std::vector<std::int64_t>(2 * slices),
               std::vector<double>(slices)};
  for (std::size_t s = 0; s < slices; ++s) {
    none.currents[2 * s] = std::numeric_limits<std::int64_t>::max();
    none.currents[2 * s + 1] = std::numeric_limits<std::int64_t>::min();
  }
  return none;
}

Counted count_on_host(const Groups& groups, const MvmPlan& plan) {
  Counted sum = nothing_counted(plan);
  for (int chip = 0; chip < groups.chips; ++chip) {
    for (int group = 0; group < groups.groups; ++group) {
      const cpu::CrossbarMvm mvm(groups.problem(group, chip));
      const auto slices = cpu::count_conversions(mvm, groups.rows(group), groups.c.batch, groups.c.first_access);
      for (std::size_t s = 0; s < slices.size(); ++s) {
        const SliceConversions& one = slices[s];
        for (std::size_t j = 0; j < one.codes.size(); ++j) sum.codes[s * one.codes.size() + j] += one.codes[j];
        sum.clipped[2 * s] += one.clipped_low;
        sum.clipped[2 * s + 1] += one.clipped_high;
        sum.currents[2 * s] = std::min(sum.currents[2 * s], one.lowest);
        sum.currents[2 * s + 1] = std::max(sum.currents[2 * s + 1], one.highest);
        sum.errors[s] += one.squared_error;
      }
    }
  }
  return sum;
}

Counted count_on_device(const MvmLayer& layer, const cuda::DeviceImage& image, const std::uint8_t* x, std::int64_t rows,
                        const cuda::Accesses& accesses) {
  Counted sum = nothing_counted(layer.plan());
  std::vector<double> scratch(static_cast<std::size_t>(cuda::count_conversions_scratch(layer, image.chips, rows)),
                              1e300);
  cuda::count_conversions(
      layer, image, x, rows,
      {sum.codes.data(), sum.clipped.data(), sum.currents.data(), sum.errors.data(), scratch.data()}, accesses, {});
  return sum;
}

/// What the cases had.
struct Seen {
  int computed = 0;
  int words = 0;
  int reads = 0;
  int chips = 0;
  int groups = 0;
  int mappings[3] = {};
  int by_column = 0;
  int apart = 0;
  int clipped = 0;
  int in_place = 0;
};

void compare_conversions(const Groups& groups, const MvmLayer& layer, std::size_t skew, Seen& seen) {
  const Case& c = groups.c;
  const MvmPlan& plan = layer.plan();
  CopiedLayer copied(layer, c.options.chip);
  const cuda::Accesses accesses = accesses_of(c.options, c.first_access);
  const cuda::DeviceImage image = copied.image();
  AlignedBytes input(groups.x.data(), groups.x.size(), skew);
  const auto* x = reinterpret_cast<const std::uint8_t*>(input.data());
  const Shares expected = shares_on_host(groups, plan);
  Shares got{std::vector<float>(expected.pass.size(), -7.0F), std::vector<float>(expected.step.size(), -7.0F)};
  cuda::shares_of_conversions(layer, image, x, {c.batch, got.pass.data(), got.step.data()}, accesses, {});
  REQUIRE(bits_of(got.pass) == bits_of(expected.pass));
  REQUIRE(bits_of(got.step) == bits_of(expected.step));
  // Either of them alone.
  std::vector<float> pass(expected.pass.size());
  std::vector<float> step(expected.step.size());
  cuda::shares_of_conversions(layer, image, x, {c.batch, pass.data(), nullptr}, accesses, {});
  cuda::shares_of_conversions(layer, image, x, {c.batch, nullptr, step.data()}, accesses, {});
  REQUIRE(pass == expected.pass);
  REQUIRE(step == expected.step);

  const Counted counted = count_on_host(groups, plan);
  const Counted found = count_on_device(layer, image, x, c.batch, accesses);
  REQUIRE(found.codes == counted.codes);
  REQUIRE(found.clipped == counted.clipped);
  REQUIRE(found.currents == counted.currents);
  for (std::size_t s = 0; s < counted.errors.size(); ++s) {
    // All terms are positive: orders differ by less than 2^-52 times the number of terms.
    REQUIRE(found.errors[s] == Approx(counted.errors[s]).epsilon(1e-11).margin(1e-12));
  }
  REQUIRE(count_on_device(layer, image, x, c.batch, accesses).errors == found.errors);
  seen.clipped += *std::max_element(counted.clipped.begin(), counted.clipped.end()) > 0 ? 1 : 0;
}

void run_case(Random& random, const Case& c, int groups, Seen& seen) {
  Groups run{c, groups, random.chance(0.2) ? 2 : 1, {}, {}};
  INFO(c.text() << " groups " << groups << " chips " << run.chips);
  run.w = random_weights(random, groups * c.outputs * c.inputs, c.options.weight_bits);
  run.x = random_activations(random, groups * c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
  std::optional<MvmLayer> layer;
  try {
    layer.emplace(run.layer());
  } catch (const Error&) {
    return;  // of whatever layer: test_crossbar_mvm.cpp
  }
  if (layer->plan().ideal) {
    REQUIRE_THROWS_AS(cuda::shares_of_conversions(*layer, {}, nullptr, {}, {}, {}), Error);
    return;
  }
  ++seen.computed;
  seen.words += layer->cells() == cuda::Cells::kWords ? 1 : 0;
  seen.reads += layer->cells() == cuda::Cells::kReads ? 1 : 0;
  seen.chips += run.chips > 1 && layer->plan().varies ? 1 : 0;
  seen.groups += groups > 1 ? 1 : 0;
  ++seen.mappings[static_cast<int>(c.hardware.mapping)];
  seen.by_column += layer->plan().by_column() ? 1 : 0;
  seen.apart += layer->plan().separate_columns ? 1 : 0;
  seen.in_place += layer->converter() == cuda::Converter::kShifted ? 1 : 0;
  compare_conversions(run, *layer, random.chance(0.2) ? 3 : 0, seen);
}

Case sliced(Case c) {
  c.options.allow_collapse = false;
  return c;
}

TEST_CASE("conversions of random layers on the emulated tensor cores are those of the processor",
          "[cuda][conversions]") {
  Random random(71);
  Seen seen;
  for (int j = 0; j < 200; ++j) {
    Case c = sliced(random_configuration(random));
    const int groups = random.chance(0.2) ? 2 : 1;
    c.outputs = random.integer(1, 40);
    c.inputs = random.chance(0.4) ? 16 * random.integer(1, 5) : random.integer(1, 70);
    c.batch = random.integer(1, 5);
    add_column_ranges(random, c, groups * c.outputs);
    run_case(random, c, groups, seen);
  }
  CHECK(seen.computed > 80);
  for (const int mapping : seen.mappings) CHECK(mapping > 15);
  CHECK(seen.words > 20);
  CHECK(seen.reads > 20);
  CHECK(seen.chips > 3);
  CHECK(seen.groups > 5);
  CHECK(seen.by_column > 5);
  CHECK(seen.apart > 10);
  CHECK(seen.clipped > 20);
  CHECK(seen.in_place > 20);  // layers whose product leaves digits where they are in their bytes
}

TEST_CASE("conversions of several blocks and of tiles of several chunks are those of the processor",
          "[cuda][conversions]") {
  Random random(72);
  Seen seen;
  for (int j = 0; j < 8; ++j) {
    Case c = sliced(random_configuration(random));
    c.hardware.adc.bits = static_cast<int>(random.integer(3, 6));
    c.options.act_bits = static_cast<int>(random.integer(1, 4));
    c.outputs = random.integer(60, 90);
    c.inputs = j < 4 ? 300 : random.integer(257, 500);
    c.hardware.rows = (j < 4 ? 256 : 300) * (c.hardware.mapping == Mapping::kDifferentialRow ? 2 : 1);
    c.batch = j % 2 == 0 ? 70 : 3;
    add_column_ranges(random, c, c.outputs);
    run_case(random, c, 1, seen);
  }
  CHECK(seen.computed > 4);
}

Case plain_case() {
  Case c = sliced({});
  c.hardware = plain_hardware();
  c.hardware.adc = {4, AdcRange::kFullScale, AdcPlacement::kDifferential};
  c.outputs = 9;
  c.inputs = 40;
  c.batch = 3;
  return c;
}

TEST_CASE("counters of many tiles and of wide converters are those of the processor", "[cuda][conversions]") {
  Random random(73);
  Seen seen;
  Case c = plain_case();
  c.hardware.rows = 1;  // more tiles than counters of 32 bits are emptied after
  c.inputs = 1100;
  c.outputs = 2;
  c.options.act_bits = c.options.weight_bits = 2;
  run_case(random, c, 1, seen);
  c = plain_case();
  c.hardware.adc.bits = 13;  // more codes than are counted in shared memory
  run_case(random, c, 1, seen);
  CHECK(seen.computed == 2);
}

TEST_CASE("conversions do not depend on the order in which an emulated device runs its threads",
          "[cuda][conversions]") {
  emulation::in_every_order([&] {
    Random random(74);
    Seen seen;
    Case c = plain_case();
    c.outputs = 66;
    c.batch = 66;
    run_case(random, c, 1, seen);
    CHECK(seen.computed == 1);
  });
}

TEST_CASE("a changed cell, tile of activations or range changes the conversions that are compared",
          "[cuda][conversions]") {
  // The control of the tests above: every comparison in them sees one difference.
  Groups run{plain_case(), 1, 1, {}, {}};
  run.w.assign(static_cast<std::size_t>(run.c.outputs * run.c.inputs), 100);
  run.x.assign(static_cast<std::size_t>(run.c.batch * run.c.inputs), 255);
  const MvmLayer layer = run.layer();
  const Counted counted = count_on_host(run, layer.plan());
  const Shares shares = shares_on_host(run, layer.plan());
  const auto found = [&](const MvmLayer& changed, const std::vector<std::uint8_t>& x) {
    CopiedLayer copied(changed);
    const cuda::DeviceImage image = copied.image();
    Shares got{std::vector<float>(shares.pass.size()), std::vector<float>(shares.step.size())};
    cuda::shares_of_conversions(changed, image, x.data(), {run.c.batch, got.pass.data(), got.step.data()}, {}, {});
    const Counted counters = count_on_device(changed, image, x.data(), run.c.batch, {});
    return std::pair(got, counters);
  };
  const auto same = found(layer, run.x);
  CHECK(bits_of(same.first.step) == bits_of(shares.step));
  CHECK(same.second.codes == counted.codes);
  std::vector<std::uint8_t> x = run.x;
  std::fill_n(x.begin(), layer.plan().inputs_per_tile, std::uint8_t{0});
  const auto other_x = found(layer, x);
  CHECK(other_x.first.step != shares.step);
  CHECK(other_x.second.codes != counted.codes);
  CHECK(other_x.second.errors != counted.errors);
  Groups other = run;
  other.w.front() = -100;
  CHECK(found(other.layer(), run.x).first.step != shares.step);
  other = run;
  other.c.hardware.adc = {4, AdcRange::kCalibrated, AdcPlacement::kDifferential};
  other.c.options.adc_lo.assign(static_cast<std::size_t>(layer.plan().n_w), 0);
  other.c.options.adc_lsb.assign(static_cast<std::size_t>(layer.plan().n_w), 0.5);
  const auto narrow = found(other.layer(), run.x);
  CHECK(narrow.first.pass != shares.pass);
  CHECK(narrow.second.clipped != counted.clipped);
}

TEST_CASE("conversions are refused where there are none, and without rows nothing starts", "[cuda][conversions]") {
  Case c = plain_case();
  c.hardware.adc = {14, AdcRange::kGranular, AdcPlacement::kDifferential};
  c.options.allow_collapse = true;
  const Groups run{c, 1, 1, std::vector<std::int8_t>(static_cast<std::size_t>(c.outputs * c.inputs)), {}};
  const MvmLayer folded = run.layer();
  CHECK_THROWS_WITH(cuda::shares_of_conversions(folded, {}, nullptr, {}, {}, {}), Catch::Contains("not folded"));
  CHECK_THROWS_WITH(cuda::count_conversions(folded, {}, nullptr, 0, {}, {}, {}), Catch::Contains("not folded"));
  const Groups empty{plain_case(), 1, 1, run.w, {}};
  const MvmLayer layer = empty.layer();
  cuda::shares_of_conversions(layer, {}, nullptr, {}, {}, {});
  cuda::count_conversions(layer, {}, nullptr, 0, {}, {}, {});
  CHECK_THROWS_WITH(cuda::count_conversions(layer, {}, nullptr, -1, {}, {}, {}),
                    Catch::Contains("rows must be at least 0, got -1"));
}

}  // namespace
}  // namespace cimq::kernels::testing
