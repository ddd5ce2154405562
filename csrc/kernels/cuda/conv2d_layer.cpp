// Programs a convolution for the CUDA kernels.
#include <limits>

#include "common/error.h"
#include "kernels/cuda/crossbar_conv2d.h"

namespace cimq::kernels::cuda {
namespace {

constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();

std::vector<MvmProblem> groups_of(const Conv2dProblem& problem) {
  check_geometry(problem.geometry, "crossbar_conv2d");
  std::vector<MvmProblem> groups;
  for (std::int64_t group = 0; group < problem.geometry.groups; ++group) groups.push_back(problem.group(group));
  return groups;
}

std::vector<Tap> taps_of(const Conv2dGeometry& g) {
  std::vector<Tap> taps;
  for (std::int64_t k = 0; k < g.inputs_per_output(); ++k) {
    const std::int64_t y = k / g.kernel_w % g.kernel_h * g.dilation_h - g.pad_top;
    const std::int64_t x = k % g.kernel_w * g.dilation_w - g.pad_left;
    taps.push_back({static_cast<std::int32_t>(k / (g.kernel_h * g.kernel_w)), static_cast<std::int32_t>(y),
                    static_cast<std::int32_t>(x), 0});
  }
  return taps;
}

}  // namespace

Conv2dLayer::Conv2dLayer(const Conv2dProblem& problem, int chips, Programming programming)
    : geometry_(problem.geometry), matrices_(groups_of(problem), chips, programming) {
  const std::vector<Tap> taps = taps_of(geometry_);
  taps_ = matrices_.append(taps.data(), taps.size() * sizeof(Tap));
}

PatchArguments Conv2dLayer::patches(const std::byte* constants, const std::uint8_t* x, std::int64_t batch,
                                    std::int64_t h, std::int64_t w) const {
  const Conv2dGeometry& g = geometry_;
  check_image(g, h, w, "crossbar_conv2d");
  check(batch >= 0, "crossbar_conv2d: batch must be at least 0, got ", batch);
  const std::int64_t padded_h = h + g.pad_top + g.pad_bottom;
  const std::int64_t padded_w = w + g.pad_left + g.pad_right;
  check(padded_h <= kInt32Max && padded_w <= kInt32Max,
        "crossbar_conv2d: a CUDA device takes padded images of at most 2147483647 rows and columns, got ", padded_h,
        " and ", padded_w);
  const std::int64_t out_w = g.out_w(w);
  check(g.out_h(h) <= kInt32Max / out_w && batch <= kInt32Max / (g.out_h(h) * out_w),
        "crossbar_conv2d: a CUDA device takes at most 2147483647 output positions at once, got ", batch, " images of ",
        g.out_h(h), " x ", out_w, "; split the batch");
  PatchArguments patches = {};
  patches.x = x;
  patches.taps = reinterpret_cast<const Tap*>(constants + taps_);
  patches.images = static_cast<std::int32_t>(batch);
  patches.channels = static_cast<std::int32_t>(g.in_channels);
  patches.group_channels = static_cast<std::int32_t>(g.in_channels / g.groups);
  patches.height = static_cast<std::int32_t>(h);
  patches.width = static_cast<std::int32_t>(w);
  patches.out_width = static_cast<std::int32_t>(out_w);
  patches.positions = static_cast<std::int32_t>(g.out_h(h) * out_w);
  patches.stride_y = static_cast<std::int32_t>(g.stride_h);
  patches.stride_x = static_cast<std::int32_t>(g.stride_w);
  return patches;
}

}  // namespace cimq::kernels::cuda
