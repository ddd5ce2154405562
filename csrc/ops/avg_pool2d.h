// cimq::avg_pool2d: average pooling whose sums have one order, so that training, conversion and the executor agree.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "kernels/pooling.h"

namespace cimq::ops {

/// Calls the operator.
at::Tensor avg_pool2d(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                      bool count_include_pad, bool ceil_mode, std::optional<std::int64_t> divisor_override);

struct AvgPoolWindows {
  kernels::Pool2d pool;
  std::int64_t out_h;
  std::int64_t out_w;
};

/// The windows over x; refuses operands that no device takes.
AvgPoolWindows avg_pool_windows(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                                at::IntArrayRef padding, bool count_include_pad, bool ceil_mode,
                                std::optional<std::int64_t> divisor_override);

}  // namespace cimq::ops
