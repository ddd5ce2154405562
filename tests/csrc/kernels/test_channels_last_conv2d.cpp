#include <algorithm>
#include <catch2/catch.hpp>

#include "every_isa.h"
#include "kernels/cpu/mvm/channels_last_conv2d.h"
#include "kernels/cpu/mvm/crossbar_conv2d.h"
#include "random_case.h"

namespace cimq::kernels::testing {
namespace {

/// [batch, channels, area] -> [batch, area, channels].
template <typename T>
std::vector<T> channels_last(const std::vector<T>& x, std::int64_t batch, std::int64_t channels, std::int64_t area) {
  std::vector<T> result(x.size());
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t p = 0; p < area; ++p) {
        result[static_cast<std::size_t>((b * area + p) * channels + c)] =
            x[static_cast<std::size_t>((b * channels + c) * area + p)];
      }
    }
  }
  return result;
}

/// The image with a border of `value` instead of the convolution's own padding.
std::vector<std::uint8_t> bordered(const std::vector<std::uint8_t>& x, const Conv2dGeometry& g, std::int64_t planes,
                                   std::int64_t h, std::int64_t w, std::uint8_t value) {
  const std::int64_t rows = g.pad_top + h + g.pad_bottom;
  const std::int64_t columns = g.pad_left + w + g.pad_right;
  std::vector<std::uint8_t> result(static_cast<std::size_t>(planes * rows * columns), value);
  for (std::int64_t p = 0; p < planes; ++p) {
    for (std::int64_t i = 0; i < h; ++i) {
      std::copy_n(x.begin() + (p * h + i) * w, w, result.begin() + (p * rows + g.pad_top + i) * columns + g.pad_left);
    }
  }
  return result;
}

}  // namespace

TEST_CASE("Convolutions of channel-last images give the reference's integers", "[conv]") {
  const int seed = GENERATE(range(0, 60));
  Random random(static_cast<unsigned>(seed));
  const bool is_signed = random.chance(0.3);
  Conv2dGeometry g;
  g.in_channels = random.chance(0.2) ? random.integer(17, 70) : random.integer(1, 9);
  g.out_channels = random.chance(0.2) ? random.integer(17, 70) : random.integer(1, 9);
  draw_window(random, g);
  const std::int64_t h = g.dilation_h * (g.kernel_h - 1) + random.integer(1, 9);
  const std::int64_t w = g.dilation_w * (g.kernel_w - 1) + random.integer(1, 9);
  const std::int64_t batch = random.integer(1, 3);
  MvmOptions options;
  options.weight_bits = static_cast<int>(random.integer(2, 8));
  options.act_bits = static_cast<int>(random.integer(is_signed ? 2 : 1, 8));
  options.act_signed = is_signed;
  const Hardware hardware;
  INFO("seed " << seed << ", " << g.in_channels << " channels, kernel " << g.kernel_h << " x " << g.kernel_w);
  const auto weights = random_weights(random, g.out_channels * g.inputs_per_output(), options.weight_bits);
  const auto x = random_activations(random, batch * g.in_channels * h * w, options.act_bits, is_signed);
  const auto border = random_activations(random, 1, options.act_bits, is_signed)[0];

  Conv2dGeometry bare = g;
  bare.pad_top = bare.pad_bottom = bare.pad_left = bare.pad_right = 0;
  const std::int64_t positions = g.out_h(h) * g.out_w(w);
  std::vector<std::int32_t> wanted(static_cast<std::size_t>(batch * g.out_channels * positions));
  const auto image = bordered(x, g, batch * g.in_channels, h, w, border);
  crossbar_conv2d_reference({hardware, weights.data(), bare, options}, image.data(), batch,
                            h + g.pad_top + g.pad_bottom, w + g.pad_left + g.pad_right, wanted.data());
  wanted = channels_last(wanted, batch, g.out_channels, positions);

  const auto ordered = channels_last(x, batch, g.in_channels, h * w);
  on_every_isa([&] {
    const cpu::ChannelsLastConv2d conv({hardware, weights.data(), g, options});
    std::vector<std::int32_t> got(wanted.size());
    const std::int64_t rows = batch * g.out_h(h);
    conv.run_rows(ordered.data(), h, w, 0, rows / 2, got.data(), border);
    conv.run_rows(ordered.data(), h, w, rows / 2, rows, got.data(), border);
    REQUIRE(got == wanted);
  });
}

TEST_CASE("Channel-last convolutions refuse what is not one exact product", "[conv]") {
  const std::vector<std::int8_t> w(4, 1);
  Conv2dGeometry g;
  g.in_channels = g.out_channels = g.groups = 2;
  CHECK_THROWS_WITH(cpu::ChannelsLastConv2d({{}, w.data(), g, {}}), Catch::Contains("one group, got 2"));
  g.groups = 1;
  Hardware lossy;
  lossy.adc.bits = 4;
  CHECK_THROWS_WITH(cpu::ChannelsLastConv2d({lossy, w.data(), g, {}}), Catch::Contains("exact product"));
}

}  // namespace cimq::kernels::testing
