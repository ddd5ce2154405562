// 2-D convolution on programmed crossbars: every group is a matrix [out/groups, in/groups * kernel_h * kernel_w] whose
// inputs run over channel, kernel row, kernel column. Padding applies the integer 0. Output position p of image i is
// access i * positions + p of every group. Groups share the layer index; their cells differ, since they are numbered by
// the output within the layer.
#pragma once

#include <cstdint>

#include "common/hardware.h"
#include "kernels/crossbar_mvm.h"
#include "kernels/plan/conv2d_geometry.h"

namespace cimq::kernels {

/// A kernel to be programmed: the same for every device. Refers to hardware, weights and geometry.
struct Conv2dProblem {
  const Hardware& hardware;
  const std::int8_t* w;  ///< OIHW, [out_channels, in_channels / groups, kernel_h, kernel_w]
  const Conv2dGeometry& geometry;
  MvmOptions options;

  std::int64_t group_outputs() const { return geometry.out_channels / geometry.groups; }
  /// The matrix of one group; without weights where there are none to read.
  MvmProblem group(std::int64_t index) const {
    const std::int64_t inputs = geometry.inputs_per_output();
    const std::int8_t* first = w == nullptr ? nullptr : w + index * group_outputs() * inputs;
    MvmProblem found{hardware, first, group_outputs(), inputs, options};
    found.options.first_output += index * group_outputs();
    return found;
  }
};

/// The specification as plain loops: im2col of everything, then crossbar_mvm_reference per group.
/// x [batch, in_channels, h, w], y [batch, out_channels, out_h, out_w]. The int32 form needs plan.exact, the float form
/// the opposite.
void crossbar_conv2d_reference(const Conv2dProblem& problem, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                               std::int64_t w, std::int32_t* y, std::uint64_t first_access = 0);
void crossbar_conv2d_reference(const Conv2dProblem& problem, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                               std::int64_t w, float* y, std::uint64_t first_access = 0);

}  // namespace cimq::kernels
