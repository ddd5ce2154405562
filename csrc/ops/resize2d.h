// cimq::resize2d: nearest and bilinear interpolation whose bits are defined.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/resize.h"

namespace cimq::ops {

/// Calls the operator.
at::Tensor resize2d(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step, c10::string_view mode,
                    bool align_corners);

/// The mode of that name; ValueError for another.
kernels::ResizeMode resize_mode(c10::string_view name);

/// Refuses operands that no device takes.
kernels::Resize2d checked_resize(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step,
                                 c10::string_view mode, bool align_corners);

}  // namespace cimq::ops
