// cimq::softmax: softmax and its logarithm, whose bits are defined, so that evaluation, conversion and the executor
// agree.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cimq::ops {

/// Calls the operator.
at::Tensor softmax(const at::Tensor& x, std::int64_t dim, bool logarithm);

/// Refuses operands that no device takes.
void check_softmax(const at::Tensor& x, std::int64_t dim);

}  // namespace cimq::ops
