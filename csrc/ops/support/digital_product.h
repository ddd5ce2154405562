// Products of small integers by torch's own floating-point kernels, where those are exact: what an ideal or lossless
// converter leaves of a crossbar layer. The first product of every geometry is tried (proof.h): settings of torch and
// of its libraries change their kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "ops/support/conv_args.h"
#include "ops/support/exact_sums.h"
#include "ops/support/operands.h"

namespace cimq::ops {

/// Whether a lossless layer is better multiplied in int8 by the crossbar kernels than in float32 by torch: operands are
/// integers already, the machine has an instruction for them, and outputs fill a panel; or the float32 copies of x and
/// of the `results` would take much memory, where the kernels work block by block.
bool prefers_int8(const at::Tensor& x, const at::Tensor& w, std::int64_t outputs, std::int64_t results);

/// x . w^T of float32 tensors [batch, inputs] and [outputs, inputs] that hold integers in the ranges, as float32 or,
/// where those sums would not be exact, piece by piece as int32.
at::Tensor digital_product(const char* op, const at::Tensor& x, const at::Tensor& w, const IntegerRange& x_range,
                           const IntegerRange& w_range);

/// x . w^T of two matrices, or of every matrix of [matrices, batch, inputs] and [matrices, outputs, inputs]; integers
/// in tensors of any type. float32, or int32 where that would not be exact.
at::Tensor digital_products(const char* op, const at::Tensor& x, const at::Tensor& w, const IntegerRange& x_range,
                            const IntegerRange& w_range);

/// The convolution of float32 tensors that hold integers, whose sums are exact (float_sums_are_exact), or nothing where
/// torch has no kernel at hand that adds up products and does nothing else (as Winograd's algorithm does).
std::optional<at::Tensor> digital_conv2d(const char* op, const at::Tensor& x, const at::Tensor& w,
                                         const ConvRequest& request, const IntegerRange& x_range,
                                         const IntegerRange& w_range);

}  // namespace cimq::ops
