// cimq::scale_row: the scale of the present bit width out of those of all widths, and its autograd. One node in the
// graph of a training step where Python would need three.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cimq::ops {

/// Calls the operator.
at::Tensor scale_row(const at::Tensor& scales, std::int64_t row, double smallest);

}  // namespace cimq::ops
