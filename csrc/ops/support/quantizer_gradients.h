// The gradients of LSQ fake quantisation, for fake_quantize and for products that quantise their input on the way.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/support/quantizer_args.h"

namespace cimq::ops {

struct QuantizerGradients {
  at::Tensor x;
  at::Tensor scale;
};

enum class GradientUse {
  kRead,
  kOverwrite,  ///< `grad` belongs to nobody else: its memory becomes the result's
};

/// Gradients of x and scale, given that of x_hat; `factor` multiplies that of the scale. `levels`, if defined, gets the
/// integers x_hat / scale; it and `grad` then have the type and the strides of x, a dense float32 or bfloat16 tensor.
QuantizerGradients quantizer_gradients(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale,
                                       const ScaledRows& rows, const kernels::QuantRange& range, double factor,
                                       GradientUse use, const at::Tensor& levels = {});

}  // namespace cimq::ops
