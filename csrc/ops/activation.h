// cimq::activation: activation functions whose bits are defined, so that training, conversion and the executor agree.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/activation.h"

namespace cimq::ops {

/// Calls the operator.
at::Tensor activation(const at::Tensor& x, c10::string_view name, double alpha);

/// The kind of that name; ValueError for another.
kernels::Activation activation_kind(c10::string_view name);

/// Refuses operands that no device takes.
void check_activation(const at::Tensor& x, double alpha);

}  // namespace cimq::ops
