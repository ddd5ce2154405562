#include <catch2/catch.hpp>

#include "every_isa.h"
#include "kernels/cpu/mvm/crossbar_conv2d.h"
#include "random_case.h"

namespace cimq::kernels::testing {
namespace {

Conv2dGeometry random_geometry(Random& random) {
  Conv2dGeometry g;
  const bool depthwise = random.chance(0.2);
  g.groups = depthwise ? random.integer(1, 8) : (random.chance(0.3) ? random.integer(2, 3) : 1);
  g.in_channels = g.groups * (depthwise ? 1 : random.integer(1, 4));
  g.out_channels = g.groups * (depthwise ? random.integer(1, 2) : random.integer(1, 5));
  draw_window(random, g);
  return g;
}

template <typename T>
void compare_conv(const Case& c, const cpu::CrossbarConv2d& conv, const std::vector<std::int8_t>& w,
                  const std::vector<std::uint8_t>& x, std::int64_t h, std::int64_t width) {
  const Conv2dGeometry& g = conv.geometry();
  const std::int64_t rows = c.batch * g.out_h(h);
  const auto size = static_cast<std::size_t>(rows * g.out_w(width) * g.out_channels);
  std::vector<T> got(size);
  std::vector<T> parts(size);
  std::vector<T> expected(size);
  conv.run(x.data(), c.batch, h, width, got.data());
  conv.run_rows(x.data(), h, width, 0, rows / 2, parts.data());
  conv.run_rows(x.data(), h, width, rows / 2, rows, parts.data());
  crossbar_conv2d_reference({c.hardware, w.data(), g, c.options}, x.data(), c.batch, h, width, expected.data());
  REQUIRE(got == expected);
  REQUIRE(parts == expected);
}

/// Direct convolution in integers.
std::int64_t direct(const Conv2dGeometry& g, const std::vector<std::int8_t>& w, const std::vector<std::uint8_t>& x,
                    std::int64_t h, std::int64_t width, std::int64_t b, std::int64_t o, std::int64_t oy,
                    std::int64_t ox) {
  const std::int64_t channels = g.in_channels / g.groups;
  const std::int64_t group = o / (g.out_channels / g.groups);
  std::int64_t sum = 0;
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t ky = 0; ky < g.kernel_h; ++ky) {
      for (std::int64_t kx = 0; kx < g.kernel_w; ++kx) {
        const std::int64_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
        const std::int64_t ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
        if (iy < 0 || iy >= h || ix < 0 || ix >= width) continue;
        sum +=
            std::int64_t{
                x[static_cast<std::size_t>(((b * g.in_channels + group * channels + c) * h + iy) * width + ix)]} *
            w[static_cast<std::size_t>(((o * channels + c) * g.kernel_h + ky) * g.kernel_w + kx)];
      }
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("random convolutions equal the reference bit for bit on every instruction set", "[conv]") {
  for (const KernelSet& set : kernel_sets()) {
    DYNAMIC_SECTION(set.name) {
      const UseKernels use(set);
      Random random(11);
      int computed = 0;
      for (int j = 0; j < 500; ++j) {
        Case c = random_configuration(random);
        c.batch = random.integer(1, 2);
        const Conv2dGeometry g = random_geometry(random);
        add_column_ranges(random, c, g.out_channels);
        const std::int64_t h = random.integer(5, 8);
        const std::int64_t width = random.integer(10, 12);
        const auto w = random_weights(random, g.out_channels * g.inputs_per_output(), c.options.weight_bits);
        const auto x =
            random_activations(random, c.batch * g.in_channels * h * width, c.options.act_bits, c.options.act_signed);
        INFO(c.text());
        std::optional<cpu::CrossbarConv2d> conv;
        try {
          conv.emplace(Conv2dProblem{c.hardware, w.data(), g, c.options});
        } catch (const Error&) {
          continue;
        }
        ++computed;
        if (conv->exact()) {
          compare_conv<std::int32_t>(c, *conv, w, x, h, width);
        } else {
          compare_conv<float>(c, *conv, w, x, h, width);
        }
      }
      CHECK(computed > 350);
    }
  }
}

TEST_CASE("a lossless convolution is the integer convolution", "[conv]") {
  Random random(12);
  for (int j = 0; j < 60; ++j) {
    const Conv2dGeometry g = random_geometry(random);
    const std::int64_t h = random.integer(5, 8);
    const std::int64_t width = random.integer(10, 12);
    const auto w = random_weights(random, g.out_channels * g.inputs_per_output(), 5);
    const auto x = random_activations(random, 2 * g.in_channels * h * width, 7, false);
    MvmOptions options;
    options.weight_bits = 5;
    options.act_bits = 7;
    options.allow_collapse = random.chance(0.5);
    const cpu::CrossbarConv2d conv({{}, w.data(), g, options});
    std::vector<std::int32_t> y(static_cast<std::size_t>(2 * g.out_channels * g.out_h(h) * g.out_w(width)));
    conv.run(x.data(), 2, h, width, y.data());
    std::size_t index = 0;
    for (std::int64_t b = 0; b < 2; ++b) {
      for (std::int64_t o = 0; o < g.out_channels; ++o) {
        for (std::int64_t oy = 0; oy < g.out_h(h); ++oy) {
          for (std::int64_t ox = 0; ox < g.out_w(width); ++ox) {
            REQUIRE(y[index++] == direct(g, w, x, h, width, b, o, oy, ox));
          }
        }
      }
    }
  }
}

TEST_CASE("memory that a convolution takes for itself does not grow with the image", "[conv][memory]") {
  Hardware hw;
  hw.adc.bits = 8;
  Conv2dGeometry g;
  g.in_channels = 64;
  g.out_channels = 64;
  g.kernel_h = g.kernel_w = 3;
  g.pad_top = g.pad_bottom = g.pad_left = g.pad_right = 1;
  const std::vector<std::int8_t> w(static_cast<std::size_t>(g.out_channels * g.inputs_per_output()), 1);
  const cpu::CrossbarConv2d conv({hw, w.data(), g, {}});
  constexpr std::int64_t kSize = 1024;
  const std::int64_t matrix = kSize * kSize * g.inputs_per_output();  // what im2col would take
  CHECK(conv.scratch_bytes(kSize, kSize, 1) <= conv.scratch_bytes(kSize, kSize, kSize));
  CHECK(conv.scratch_bytes(kSize, kSize, kSize) == conv.scratch_bytes(kSize, kSize, 8 * kSize));
  CHECK(conv.scratch_bytes(kSize, kSize, kSize) < std::min<std::int64_t>(64 << 20, matrix / 50));
}

TEST_CASE("groups have cells of their own", "[conv][noise]") {
  Hardware hw;
  hw.cell.programming = {"gaussian", 0.3};
  Conv2dGeometry g;
  g.in_channels = g.out_channels = g.groups = 2;
  const std::vector<std::int8_t> w{50, 50};
  const std::vector<std::uint8_t> x{200, 200};
  std::vector<float> y(2);
  cpu::CrossbarConv2d({hw, w.data(), g, {}}).run(x.data(), 1, 1, 1, y.data());
  CHECK(y[0] != y[1]);
}

TEST_CASE("impossible convolutions are refused by name", "[conv][errors]") {
  const std::vector<std::int8_t> w(64, 1);
  const auto refused = [&](auto change, const char* text) {
    Conv2dGeometry g;
    g.in_channels = g.out_channels = 2;
    change(g);
    CHECK_THROWS_WITH(cpu::CrossbarConv2d({{}, w.data(), g, {}}), Catch::Contains(text));
  };
  refused([](auto& g) { g.in_channels = 0; }, "in_channels must lie in");
  refused([](auto& g) { g.out_channels = 0; }, "out_channels must lie in");
  refused([](auto& g) { g.kernel_h = 0; }, "kernel height");
  refused([](auto& g) { g.kernel_w = 0; }, "kernel width");
  refused([](auto& g) { g.stride_h = 0; }, "vertical stride");
  refused([](auto& g) { g.stride_w = -1; }, "horizontal stride");
  refused([](auto& g) { g.pad_top = -1; }, "padding at the top");
  refused([](auto& g) { g.pad_bottom = -1; }, "padding at the bottom");
  refused([](auto& g) { g.pad_left = -1; }, "padding on the left");
  refused([](auto& g) { g.pad_right = -1; }, "padding on the right");
  refused([](auto& g) { g.dilation_h = 0; }, "vertical dilation");
  refused([](auto& g) { g.dilation_w = 0; }, "horizontal dilation");
  refused([](auto& g) { g.groups = 0; }, "groups must lie in");
  refused([](auto& g) { g.groups = 4; }, "multiples of groups");

  Conv2dGeometry g;
  g.kernel_h = g.kernel_w = 3;
  const cpu::CrossbarConv2d conv({{}, w.data(), g, {}});
  const std::vector<std::uint8_t> x(4, 1);
  std::int32_t y = 0;
  CHECK_THROWS_WITH(conv.run(x.data(), 1, 2, 2, &y), Catch::Contains("3 x 3") && Catch::Contains("image of 2 x 2"));
}

}  // namespace cimq::kernels::testing
