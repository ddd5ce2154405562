// Convolution as blocks of patches through the MVM of each group.
#include "kernels/crossbar_conv2d.h"

#include <algorithm>

#include "common/error.h"
#include "kernels/cpu/im2col.h"

namespace cimq::kernels {
namespace {

constexpr std::int64_t kPatchBytes = 1 << 20;  // of a block of patches
constexpr std::int64_t kMinPatches = 64;
constexpr std::int64_t kMaxPatches = 4096;

}  // namespace

CrossbarConv2d::CrossbarConv2d(const Hardware& hardware, const std::int8_t* w, const Conv2dGeometry& geometry,
                               const MvmOptions& options)
    : geometry_(geometry) {
  check_geometry(geometry, "crossbar_conv2d");
  const std::int64_t outputs = geometry.out_channels / geometry.groups;
  const std::int64_t inputs = geometry.inputs_per_output();
  MvmOptions group_options = options;
  groups_.reserve(static_cast<std::size_t>(geometry.groups));
  for (std::int64_t group = 0; group < geometry.groups; ++group) {
    group_options.first_output = options.first_output + group * outputs;
    groups_.emplace_back(hardware, w + group * outputs * inputs, outputs, inputs, group_options);
  }
}

std::int64_t CrossbarConv2d::packed_bytes() const {
  std::int64_t bytes = 0;
  for (const CrossbarMvm& group : groups_) bytes += group.packed_bytes();
  return bytes;
}

template <typename T>
void CrossbarConv2d::run_block_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin,
                                    std::int64_t end, T* y) const {
  const Conv2dGeometry& g = geometry_;
  check_image(g, h, w, "crossbar_conv2d");
  const std::int64_t out_w = g.out_w(w);
  const std::int64_t plane = g.out_h(h) * out_w;
  const std::int64_t inputs = g.inputs_per_output();
  const std::int64_t outputs = g.out_channels / g.groups;
  const std::int64_t block =
      std::min((end - begin) * out_w, std::clamp(kPatchBytes / inputs, kMinPatches, kMaxPatches));
  std::vector<std::uint8_t> patches(static_cast<std::size_t>(block * inputs));
  std::vector<T> results(static_cast<std::size_t>(block * outputs));
  for (std::int64_t first = begin * out_w; first < end * out_w; first += block) {
    const std::int64_t count = std::min(block, end * out_w - first);
    for (std::int64_t group = 0; group < g.groups; ++group) {
      for (std::int64_t p = 0; p < count; ++p) {
        const std::int64_t image = (first + p) / plane;
        const std::int64_t position = (first + p) % plane;
        const std::int64_t channel = image * g.in_channels + group * (g.in_channels / g.groups);
        copy_patch(g, x + channel * h * w, h, w, position / out_w, position % out_w, patches.data() + p * inputs);
      }
      groups_[static_cast<std::size_t>(group)].run(patches.data(), count, results.data());
      for (std::int64_t o = 0; o < outputs; ++o) {
        for (std::int64_t p = 0; p < count; ++p) {
          const std::int64_t image = (first + p) / plane;
          const std::int64_t channel = image * g.out_channels + group * outputs + o;
          y[channel * plane + (first + p) % plane] = results[static_cast<std::size_t>(p * outputs + o)];
        }
      }
    }
  }
}

void CrossbarConv2d::run(const std::uint8_t* x, std::int64_t batch, std::int64_t h, std::int64_t w,
                         std::int32_t* y) const {
  check_image(geometry_, h, w, "crossbar_conv2d");
  run_block_rows(x, h, w, 0, batch * geometry_.out_h(h), y);
}

void CrossbarConv2d::run(const std::uint8_t* x, std::int64_t batch, std::int64_t h, std::int64_t w, float* y) const {
  check_image(geometry_, h, w, "crossbar_conv2d");
  run_block_rows(x, h, w, 0, batch * geometry_.out_h(h), y);
}

void CrossbarConv2d::run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin,
                              std::int64_t end, std::int32_t* y) const {
  run_block_rows(x, h, w, begin, end, y);
}

void CrossbarConv2d::run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin,
                              std::int64_t end, float* y) const {
  run_block_rows(x, h, w, begin, end, y);
}

}  // namespace cimq::kernels
