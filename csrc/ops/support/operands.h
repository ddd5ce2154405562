// Integers on their way into a kernel: checked and narrowed to one byte, whatever type the tensor has.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/mapping.h"

namespace cimq::ops {

/// Refuses bool and complex tensors (TypeError), and other types that hold no numbers.
void check_integer_type(const char* op, const char* name, const at::Tensor& tensor);

/// A contiguous tensor of the low bytes of `tensor`, kByte for lo >= 0, else kChar. Takes any integer type, or a
/// floating type that holds integers; values may be off by 1/1024, which allows for the rounding of (q * scale) /
/// scale. Throws ValueError naming `op`, `name`, the first value outside `range` (or not an integer, or NaN) and its
/// index; TypeError for bool and complex tensors.
at::Tensor narrowed(const char* op, const char* name, const at::Tensor& tensor, const IntegerRange& range);

/// The same integers as a contiguous float32 tensor, checked in the same way. A float32 tensor that holds them
/// precisely is returned as it is.
at::Tensor as_floats(const char* op, const char* name, const at::Tensor& tensor, const IntegerRange& range);

}  // namespace cimq::ops
