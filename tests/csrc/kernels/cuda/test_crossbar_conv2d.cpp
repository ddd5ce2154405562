// The convolution of the CUDA kernels, emulated, against the reference: the same bits.
#include <catch2/catch.hpp>
#include <optional>
#include <vector>

#include "kernels/cuda/aligned_bytes.h"
#include "kernels/cuda/crossbar_conv2d.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

using cuda::Conv2dLayer;

template <typename T>
void compare_emulated(const Case& c, const Conv2dLayer& layer, const std::vector<std::int8_t>& w,
                      const std::vector<std::uint8_t>& x, std::int64_t h, std::int64_t width) {
  const Conv2dGeometry& g = layer.geometry();
  const int chips = layer.matrices().chips();
  const auto size = static_cast<std::size_t>(c.batch * g.out_h(h) * g.out_w(width) * g.out_channels);
  CopiedLayer copied(layer.matrices(), c.options.chip);
  std::vector<T> got(size * static_cast<std::size_t>(chips), T{77});
  cuda::crossbar_conv2d(layer, copied.image(), x.data(), c.batch, h, width, got.data(),
                        accesses_of(c.options, c.first_access), {});
  std::vector<T> expected;
  for (int chip = 0; chip < chips; ++chip) {
    MvmOptions options = c.options;
    options.chip += static_cast<std::uint32_t>(chip);
    std::vector<T> of_chip(size);
    crossbar_conv2d_reference({c.hardware, w.data(), g, options}, x.data(), c.batch, h, width, of_chip.data(),
                              c.first_access);
    expected.insert(expected.end(), of_chip.begin(), of_chip.end());
  }
  REQUIRE(got == expected);
}

TEST_CASE("random convolutions on the emulated tensor cores equal the reference bit for bit", "[cuda][conv]") {
  Random random(31);
  int computed = 0;
  int grouped = 0;
  int several = 0;
  int by_column = 0;
  int reads = 0;
  for (int j = 0; j < 60; ++j) {
    Case c = random_configuration(random);
    c.batch = random.integer(1, 2);
    Conv2dGeometry g;
    g.groups = random.chance(0.4) ? random.integer(2, 3) : 1;
    g.in_channels = g.groups * random.integer(1, 4);
    g.out_channels = g.groups * random.integer(1, 5);
    draw_window(random, g);
    add_column_ranges(random, c, g.out_channels);
    const std::int64_t h = random.integer(5, 8);
    const std::int64_t width = random.integer(10, 12);
    const int chips = random.chance(0.2) ? 2 : 1;
    INFO(c.text() << " groups " << g.groups << " chips " << chips);
    const auto w = random_weights(random, g.out_channels * g.inputs_per_output(), c.options.weight_bits);
    const auto x =
        random_activations(random, c.batch * g.in_channels * h * width, c.options.act_bits, c.options.act_signed);
    std::optional<Conv2dLayer> layer;
    try {
      layer.emplace(Conv2dProblem{c.hardware, w.data(), g, c.options}, chips);
    } catch (const Error&) {
      const Conv2dProblem problem{c.hardware, w.data(), g, c.options};
      REQUIRE_THROWS_AS(problem.group(0).plan(), Error);
      continue;
    }
    ++computed;
    grouped += g.groups > 1 ? 1 : 0;
    several += chips > 1 && layer->matrices().plan().varies ? 1 : 0;
    reads += layer->matrices().cells() == cuda::Cells::kReads ? 1 : 0;
    by_column += layer->matrices().plan().by_column() ? 1 : 0;
    if (layer->matrices().plan().exact) {
      compare_emulated<std::int32_t>(c, *layer, w, x, h, width);
    } else {
      compare_emulated<float>(c, *layer, w, x, h, width);
    }
  }
  CHECK(computed > 35);
  CHECK(grouped > 8);
  CHECK(several > 1);
  CHECK(by_column > 3);
  CHECK(reads > 8);
}

TEST_CASE("the CUDA convolution refuses images that are too small or too many", "[cuda][conv][errors]") {
  const Hardware hw = plain_hardware();
  Conv2dGeometry g;
  g.kernel_h = 3;
  const std::vector<std::int8_t> w{1, -1, 2};
  const Conv2dLayer layer({hw, w.data(), g, {}});
  CopiedLayer copied(layer.matrices());
  const auto start = [&](std::int64_t batch, std::int64_t h, std::int64_t width) {
    cuda::crossbar_conv2d(layer, copied.image(), nullptr, batch, h, width, nullptr, {}, {});
  };
  start(0, 3, 1);
  CHECK_THROWS_WITH(start(1, 2, 1), Catch::Contains("padded image"));
  CHECK_THROWS_WITH(start(-1, 3, 1), Catch::Contains("batch must be at least 0, got -1"));
  CHECK_THROWS_WITH(start(1 << 20, 66, 64), Catch::Contains("split the batch"));
}

}  // namespace
}  // namespace cimq::kernels::testing
