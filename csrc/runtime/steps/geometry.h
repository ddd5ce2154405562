// A node's window as the kernels take it.
#pragma once

#include "compiler/ir/graph.h"
#include "kernels/plan/conv2d_geometry.h"

namespace cimq::runtime {

inline kernels::Conv2dGeometry geometry_of(const compiler::Node& node, std::int64_t in_channels) {
  const compiler::Window& w = node.window;
  kernels::Conv2dGeometry geometry;
  geometry.in_channels = in_channels;
  geometry.out_channels = node.shape[0];
  geometry.kernel_h = w.kernel[0];
  geometry.kernel_w = w.kernel[1];
  geometry.stride_h = w.stride[0];
  geometry.stride_w = w.stride[1];
  geometry.pad_top = w.pad_top;
  geometry.pad_bottom = w.pad_bottom;
  geometry.pad_left = w.pad_left;
  geometry.pad_right = w.pad_right;
  geometry.dilation_h = w.dilation[0];
  geometry.dilation_w = w.dilation[1];
  geometry.groups = w.groups;
  return geometry;
}

}  // namespace cimq::runtime
