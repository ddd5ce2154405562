// Images in channels-last order and in the order [N][C][H][W], one from the other, and as bytes.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>

#include "kernels/fake_quantize.h"
#include "ops/support/quantizer_gradients.h"

namespace cimq::ops {

/// The integers of x [N, C, H, W] plus `shift`, uint8 in channels-last order; x is float32 or bfloat16 in either order.
/// `finite` becomes false for NaN or infinity. In memory of Scratch::kLevels.
at::Tensor codes_of(const at::Tensor& x, float scale, const kernels::QuantRange& range, int shift,
                    const ScaledRows& rows, std::atomic<bool>& finite);

/// quantizer_gradients with `grad` and `levels` in channels-last order and x in the order [N][C][H][W], the three of
/// one type, float32 or bfloat16. The result has the order of x.
QuantizerGradients quantizer_gradients_channels_last(const at::Tensor& grad, const at::Tensor& x,
                                                     const at::Tensor& scale, const kernels::QuantRange& range,
                                                     double factor, const at::Tensor& levels);

/// The same memory seen in one of the two orders, with the strides that at::empty gives it.
at::Tensor seen_in_order(const at::Tensor& images, at::MemoryFormat format);

/// Images in channels-last order, or in the order [N][C][H][W]. A copy goes to `target` if that is given.
at::Tensor in_order(const at::Tensor& images, at::MemoryFormat format, at::Tensor target = {});

}  // namespace cimq::ops
