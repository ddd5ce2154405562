// cimq::linear_f32 and cimq::conv2d_f32: float32 layers whose bits do not depend on machine, threads or library.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "ops/support/conv_args.h"

namespace cimq::ops {

/// Call the operators.
at::Tensor linear_f32(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias);
at::Tensor conv2d_f32(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                      at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups);

/// Refuse operands that no device takes.
void check_linear(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias);
kernels::Conv2dGeometry check_conv2d(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                                     const ConvRequest& request);

}  // namespace cimq::ops
