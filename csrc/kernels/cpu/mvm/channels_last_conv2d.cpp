#include "kernels/cpu/mvm/channels_last_conv2d.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "common/error.h"

namespace cimq::kernels::cpu {
namespace {

constexpr std::int64_t kPatchBytes = 1 << 17;  // of a block of patches: it stays in the second-level cache
constexpr std::int64_t kMinPatches = 64;
constexpr std::int64_t kRun = 16;  // bytes that are moved at a time

/// [outputs, channels, kernel_h, kernel_w] -> [outputs, kernel_h, kernel_w, channels].
std::vector<std::int8_t> with_channels_last(const std::int8_t* w, const Conv2dGeometry& g) {
  const std::int64_t area = g.kernel_h * g.kernel_w;
  std::vector<std::int8_t> result(static_cast<std::size_t>(g.out_channels * g.in_channels * area));
  auto to = result.begin();
  for (std::int64_t o = 0; o < g.out_channels; ++o, w += g.in_channels * area) {
    for (std::int64_t k = 0; k < area; ++k) {
      for (std::int64_t c = 0; c < g.in_channels; ++c) *to++ = w[c * area + k];
    }
  }
  return result;
}

CrossbarMvm programmed(const Conv2dProblem& problem) {
  const Conv2dGeometry& g = problem.geometry;
  check_geometry(g, "crossbar_conv2d");
  check(g.groups == 1, "crossbar_conv2d: channel-last images are taken by convolutions of one group, got ", g.groups);
  const std::vector<std::int8_t> w = with_channels_last(problem.w, g);
  CrossbarMvm mvm({problem.hardware, w.data(), g.out_channels, g.inputs_per_output(), problem.options});
  check(mvm.plan().collapses, "crossbar_conv2d: channel-last images are taken by layers with an exact product");
  return mvm;
}

/// Lines of a padded image, from which patches are taken in runs.
class Lines {
 public:
  Lines(const Conv2dGeometry& g, std::int64_t h, std::int64_t w, std::uint8_t border)
      : g_(g),
        h_(h),
        image_line_(w * g.in_channels),
        line_((g.pad_left + w + g.pad_right) * g.in_channels),
        border_(border),
        lines_(static_cast<std::size_t>(g.kernel_h * line_ + kRun), border) {}

  static std::int64_t bytes(const Conv2dGeometry& g, std::int64_t w) {
    return g.kernel_h * (g.pad_left + w + g.pad_right) * g.in_channels + kRun;
  }

  /// The lines that output row `oy` of the image reads. The padding on both sides is there from the start.
  void load(const std::uint8_t* image, std::int64_t oy) {
    for (std::int64_t ky = 0; ky < g_.kernel_h; ++ky) {
      const std::int64_t iy = oy * g_.stride_h - g_.pad_top + ky * g_.dilation_h;
      std::uint8_t* const to = lines_.data() + ky * line_ + g_.pad_left * g_.in_channels;
      if (iy < 0 || iy >= h_) {
        std::fill_n(to, image_line_, border_);
      } else {
        std::copy_n(image + iy * image_line_, image_line_, to);
      }
    }
  }

  /// The patch of output column `ox`, over kernel row, kernel column, channel. Up to kRun bytes behind it are
  /// overwritten.
  std::uint8_t* patch(std::int64_t ox, std::uint8_t* to) const {
    const bool together = g_.dilation_w == 1;
    const std::int64_t run = together ? g_.kernel_w * g_.in_channels : g_.in_channels;
    const std::int64_t runs = together ? 1 : g_.kernel_w;
    const std::uint8_t* row = lines_.data() + ox * g_.stride_w * g_.in_channels;
    for (std::int64_t ky = 0; ky < g_.kernel_h; ++ky, row += line_) {
      for (std::int64_t kx = 0; kx < runs; ++kx, to += run) {
        const std::uint8_t* const from = row + kx * g_.dilation_w * g_.in_channels;
        for (std::int64_t i = 0; i < run; i += kRun) std::memcpy(to + i, from + i, kRun);
      }
    }
    return to;
  }

 private:
  const Conv2dGeometry& g_;
  std::int64_t h_, image_line_, line_;
  std::uint8_t border_;
  std::vector<std::uint8_t> lines_;
};

std::int64_t patches_per_block(std::int64_t inputs) { return std::max(kMinPatches, kPatchBytes / inputs); }

}  // namespace

ChannelsLastConv2d::ChannelsLastConv2d(const Conv2dProblem& problem)
    : geometry_(problem.geometry), mvm_(programmed(problem)) {}

std::int64_t ChannelsLastConv2d::scratch_bytes(std::int64_t h, std::int64_t w, std::int64_t rows) const {
  check_image(geometry_, h, w, "crossbar_conv2d");
  const std::int64_t inputs = geometry_.inputs_per_output();
  const std::int64_t block = std::min(rows * geometry_.out_w(w), patches_per_block(inputs));
  return block * inputs + kRun + Lines::bytes(geometry_, w) + mvm_.scratch_bytes(block);
}

void ChannelsLastConv2d::run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin,
                                  std::int64_t end, std::int32_t* y, std::uint8_t border) const {
  const Conv2dGeometry& g = geometry_;
  check_image(g, h, w, "crossbar_conv2d");
  check(begin >= 0 && begin <= end, "crossbar_conv2d: rows must be a range, got ", begin, "..", end);
  const std::int64_t out_h = g.out_h(h);
  const std::int64_t out_w = g.out_w(w);
  const std::int64_t inputs = g.inputs_per_output();
  const std::int64_t block = std::min((end - begin) * out_w, patches_per_block(inputs));
  std::vector<std::uint8_t> patches(static_cast<std::size_t>(block * inputs + kRun));
  Lines lines(g, h, w, border);
  std::int64_t loaded = -1;
  // Blocks cross rows and images, so that small images still fill them.
  for (std::int64_t first = begin * out_w; first < end * out_w; first += block) {
    const std::int64_t last = std::min(first + block, end * out_w);
    std::uint8_t* to = patches.data();
    for (std::int64_t p = first; p < last; ++p) {
      const std::int64_t row = p / out_w;
      if (row != loaded) lines.load(x + row / out_h * h * w * g.in_channels, row % out_h);
      loaded = row;
      to = lines.patch(p % out_w, to);
    }
    mvm_.run(patches.data(), last - first, y + first * g.out_channels);
  }
}

}  // namespace cimq::kernels::cpu
