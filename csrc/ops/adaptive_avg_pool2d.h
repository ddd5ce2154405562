// cimq::adaptive_avg_pool2d: adaptive average pooling whose sums have one order.
#pragma once

#include <ATen/core/Tensor.h>

namespace cimq::ops {

/// Calls the operator.
at::Tensor adaptive_avg_pool2d(const at::Tensor& x, at::IntArrayRef output_size);

/// Refuses operands that no device takes.
void check_adaptive_avg_pool2d(const at::Tensor& x, at::IntArrayRef output_size);

}  // namespace cimq::ops
