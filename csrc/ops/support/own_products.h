// Products of integers by cimq's own kernels, exact on every processor: for where a library's are not (proof.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/support/conv_args.h"

namespace cimq::ops {

/// conv2d(pad(x), w) as int32 [N, O, OH, OW]; x: uint8 or int8, w: int8 without -128, sums within 32 bits.
at::Tensor own_conv2d(const char* op, const at::Tensor& x, const at::Tensor& w, const ConvRequest& request);

/// x . w^T as int32 [batch, outputs], or for every matrix of [matrices, batch, inputs] and [matrices, outputs, inputs].
at::Tensor own_matmul(const char* op, const at::Tensor& x, const at::Tensor& w);

}  // namespace cimq::ops
