// Convolution as blocks of patches through the MVM of each group.
#include "kernels/cpu/mvm/crossbar_conv2d.h"

#include <algorithm>

#include "common/error.h"
#include "kernels/cpu/mvm/im2col.h"

namespace cimq::kernels::cpu {
namespace {

constexpr std::int64_t kPatchBytes = 1 << 20;  // of a block of patches
constexpr std::int64_t kMostPatchBytes = 1 << 23;
constexpr std::int64_t kMinPatches = 64;
constexpr std::int64_t kMaxPatches = 4096;

/// Calls `work(position, row, ox, count)` for the parts of the output positions [first, last) that lie in one row.
template <typename Work>
void for_each_row_part(std::int64_t first, std::int64_t last, std::int64_t out_w, const Work& work) {
  while (first < last) {
    const std::int64_t ox = first % out_w;
    const std::int64_t count = std::min(out_w - ox, last - first);
    work(first, first / out_w, ox, count);
    first += count;
  }
}

/// At least 64 where that stays small: a product wants several rows at once.
std::int64_t patches_per_block(std::int64_t inputs) {
  const std::int64_t wanted = std::clamp(kPatchBytes / inputs, kMinPatches, kMaxPatches);
  return std::clamp<std::int64_t>(kMostPatchBytes / inputs, 1, wanted);
}

}  // namespace

CrossbarConv2d::CrossbarConv2d(const Conv2dProblem& problem) : geometry_(problem.geometry) {
  check_geometry(geometry_, "crossbar_conv2d");
  groups_.reserve(static_cast<std::size_t>(geometry_.groups));
  for (std::int64_t group = 0; group < geometry_.groups; ++group) {
    groups_.emplace_back(problem.group(group));
  }
}

std::int64_t CrossbarConv2d::packed_bytes() const {
  std::int64_t bytes = 0;
  for (const CrossbarMvm& group : groups_) bytes += group.packed_bytes();
  return bytes;
}

std::int64_t CrossbarConv2d::scratch_bytes(std::int64_t h, std::int64_t w, std::int64_t rows) const {
  check_image(geometry_, h, w, "crossbar_conv2d");
  const std::int64_t inputs = geometry_.inputs_per_output();
  const std::int64_t block = std::min(rows * geometry_.out_w(w), patches_per_block(inputs));
  const std::int64_t outputs = geometry_.out_channels / geometry_.groups;
  return block * (inputs + outputs * 4) + PatchGatherer::kSlack + PatchGatherer::bytes(geometry_, w) +
         groups_.front().scratch_bytes(block);
}

template <typename T>
void CrossbarConv2d::run_block_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin,
                                    std::int64_t end, T* y, std::uint64_t first_access) const {
  const Conv2dGeometry& g = geometry_;
  check_image(g, h, w, "crossbar_conv2d");
  const std::int64_t out_h = g.out_h(h);
  const std::int64_t out_w = g.out_w(w);
  check(begin >= 0 && begin <= end, "crossbar_conv2d: rows must be a range, got ", begin, "..", end);
  if (begin == end) return;
  const std::int64_t inputs = g.inputs_per_output();
  const std::int64_t outputs = g.out_channels / g.groups;
  const std::int64_t block = std::min((end - begin) * out_w, patches_per_block(inputs));
  std::vector<std::uint8_t> patches(static_cast<std::size_t>(block * inputs + PatchGatherer::kSlack));
  std::vector<T> results(static_cast<std::size_t>(block * outputs));
  PatchGatherer gatherer(g, h, w);
  // Blocks cross rows and images, so that small images still fill them.
  for (std::int64_t first = begin * out_w; first < end * out_w; first += block) {
    const std::int64_t last = std::min(first + block, end * out_w);
    for (std::int64_t group = 0; group < g.groups; ++group) {
      const std::int64_t channel = group * (g.in_channels / g.groups);
      for_each_row_part(first, last, out_w, [&](std::int64_t p, std::int64_t row, std::int64_t ox, std::int64_t count) {
        const std::uint8_t* image = x + (row / out_h * g.in_channels + channel) * h * w;
        gatherer.gather(image, row % out_h, ox, ox + count, patches.data() + (p - first) * inputs);
      });
      groups_[static_cast<std::size_t>(group)].run(patches.data(), last - first, results.data(),
                                                   first_access + static_cast<std::uint64_t>(first));
      for_each_row_part(first, last, out_w, [&](std::int64_t p, std::int64_t row, std::int64_t ox, std::int64_t count) {
        const T* result = results.data() + (p - first) * outputs;
        const std::int64_t plane = row / out_h * g.out_channels + group * outputs;
        for (std::int64_t o = 0; o < outputs; ++o) {
          T* out = y + ((plane + o) * out_h + row % out_h) * out_w + ox;
          for (std::int64_t j = 0; j < count; ++j) out[j] = result[j * outputs + o];
        }
      });
    }
  }
}

void CrossbarConv2d::run(const std::uint8_t* x, std::int64_t batch, std::int64_t h, std::int64_t w, std::int32_t* y,
                         std::uint64_t first_access) const {
  check_image(geometry_, h, w, "crossbar_conv2d");
  run_block_rows(x, h, w, 0, batch * geometry_.out_h(h), y, first_access);
}

void CrossbarConv2d::run(const std::uint8_t* x, std::int64_t batch, std::int64_t h, std::int64_t w, float* y,
                         std::uint64_t first_access) const {
  check_image(geometry_, h, w, "crossbar_conv2d");
  run_block_rows(x, h, w, 0, batch * geometry_.out_h(h), y, first_access);
}

void CrossbarConv2d::run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin,
                              std::int64_t end, std::int32_t* y, std::uint64_t first_access) const {
  run_block_rows(x, h, w, begin, end, y, first_access);
}

void CrossbarConv2d::run_rows(const std::uint8_t* x, std::int64_t h, std::int64_t w, std::int64_t begin,
                              std::int64_t end, float* y, std::uint64_t first_access) const {
  run_block_rows(x, h, w, begin, end, y, first_access);
}

}  // namespace cimq::kernels::cpu
