// Types and orders in which the kernels of fake quantisation read tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/float16.h"
#include "ops/support/quantizer_args.h"

namespace cimq::ops {

/// How the kernels read and write values of `type`: 16-bit floats as they are, other types than double as float32.
inline at::ScalarType stored_type(at::ScalarType type) {
  return type == at::kDouble || type == at::kBFloat16 || type == at::kHalf ? type : at::kFloat;
}

/// Calls body(T{}) with the kernels' type for a tensor of `type`, which is one that stored_type gives.
template <typename Body>
void with_stored_type(at::ScalarType type, const Body& body) {
  switch (type) {
    case at::kDouble:
      return body(double{});
    case at::kBFloat16:
      return body(BFloat16{});
    case at::kHalf:
      return body(Float16{});
    default:
      return body(float{});
  }
}

/// x as `type` in an order that the kernels can walk. Gaps in a 16-bit tensor close in the order of its dimensions.
at::Tensor quantizer_operand(const at::Tensor& x, at::ScalarType type, const ScaledRows& rows);

}  // namespace cimq::ops
