// Convolutions of bytes by oneDNN, through PyTorch's operators of quantised models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "ops/support/conv_args.h"

namespace cimq::ops {

/// scale * w_scale[o] * conv2d(codes - shift, w) + bias in float32 or bfloat16, [N, O, OH, OW] in channels-last order.
/// codes: uint8 in that order; w: int8, with at least two channels per group, and sums within 32 bits. The first
/// product of every geometry is tried; by cimq's own kernels where oneDNN is not exact.
at::Tensor convolve_codes(const char* op, const at::Tensor& codes, double scale, std::int64_t shift,
                          const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                          const ConvRequest& request, at::ScalarType dtype);

}  // namespace cimq::ops
