// Geometry of a convolution as the dispatcher gives it, and the gradients of a convolution with uneven padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "kernels/plan/conv2d_geometry.h"

namespace cimq::ops {

/// stride and dilation are (vertical, horizontal); padding is (left, right, top, bottom), the order of F.pad.
struct ConvRequest {
  at::IntArrayRef stride;
  at::IntArrayRef padding;
  at::IntArrayRef dilation;
  std::int64_t groups;
};

/// Checks x [N, C, H, W] against w [O, C/groups, kh, kw]. Throws ValueError.
kernels::Conv2dGeometry parse_geometry(const char* op, const at::Tensor& x, const at::Tensor& w,
                                       const ConvRequest& request);

struct ConvGradients {
  at::Tensor x;
  at::Tensor w;
  at::Tensor bias;
};

/// Gradients of conv2d(pad(x), w) + bias for those that `wanted` (x, w, bias) asks for. All tensors have grad's type.
ConvGradients conv_gradients(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& w,
                             const ConvRequest& request, std::array<bool, 3> wanted);

}  // namespace cimq::ops
