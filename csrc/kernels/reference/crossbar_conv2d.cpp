// Convolution by its definition: every patch element looked up by its coordinates, then the MVM reference per group.
#include "kernels/crossbar_conv2d.h"

#include <vector>

namespace cimq::kernels {
namespace {

template <typename T>
void run_reference(const Conv2dProblem& problem, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                   std::int64_t width, T* y, std::uint64_t first_access) {
  const Conv2dGeometry& g = problem.geometry;
  check_geometry(g, "crossbar_conv2d_reference");
  check_image(g, h, width, "crossbar_conv2d_reference");
  const std::int64_t group_inputs = g.in_channels / g.groups;
  const std::int64_t group_outputs = problem.group_outputs();
  const std::int64_t inputs = g.inputs_per_output();
  const std::int64_t positions = g.out_h(h) * g.out_w(width);
  std::vector<T> result(static_cast<std::size_t>(batch * positions * group_outputs));
  for (std::int64_t group = 0; group < g.groups; ++group) {
    std::vector<std::uint8_t> patches;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t p = 0; p < positions; ++p) {
        for (std::int64_t k = 0; k < inputs; ++k) {
          const std::int64_t c = group * group_inputs + k / (g.kernel_h * g.kernel_w);
          const std::int64_t iy =
              p / g.out_w(width) * g.stride_h - g.pad_top + k / g.kernel_w % g.kernel_h * g.dilation_h;
          const std::int64_t ix = p % g.out_w(width) * g.stride_w - g.pad_left + k % g.kernel_w * g.dilation_w;
          const bool inside = iy >= 0 && iy < h && ix >= 0 && ix < width;
          patches.push_back(inside ? x[((b * g.in_channels + c) * h + iy) * width + ix] : std::uint8_t{0});
        }
      }
    }
    crossbar_mvm_reference(problem.group(group), patches.data(), batch * positions, result.data(), first_access);
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t p = 0; p < positions; ++p) {
        for (std::int64_t o = 0; o < group_outputs; ++o) {
          y[(b * g.out_channels + group * group_outputs + o) * positions + p] =
              result[static_cast<std::size_t>((b * positions + p) * group_outputs + o)];
        }
      }
    }
  }
}

}  // namespace

void crossbar_conv2d_reference(const Conv2dProblem& problem, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                               std::int64_t w, std::int32_t* y, std::uint64_t first_access) {
  run_reference(problem, x, batch, h, w, y, first_access);
}

void crossbar_conv2d_reference(const Conv2dProblem& problem, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                               std::int64_t w, float* y, std::uint64_t first_access) {
  run_reference(problem, x, batch, h, w, y, first_access);
}

}  // namespace cimq::kernels
