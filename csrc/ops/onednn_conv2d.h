// Convolutions of bytes by oneDNN, through PyTorch's operators of quantised models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "ops/conv_args.h"

namespace cimq::ops {

/// Whether its sums are exact on this processor: without AVX-512 VNNI it adds pairs of products in 16 bits, which
/// saturate.
bool has_exact_products();

/// scale * w_scale[o] * conv2d(codes - shift, w) + bias in float32 or bfloat16, [N, O, OH, OW] in channels-last order.
/// codes: uint8 in that order; w: int8, with at least two channels per group, and sums within 32 bits.
at::Tensor convolve_codes(const char* op, const at::Tensor& codes, double scale, std::int64_t shift,
                          const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                          const ConvRequest& request, at::ScalarType dtype);

}  // namespace cimq::ops
