// What crossbar_mvm_backward and crossbar_conv2d_backward share.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/plan/conv2d_geometry.h"
#include "ops/support/crossbar_args.h"
#include "ops/support/matrix_backward.h"

namespace cimq::ops {

/// dx, dw, dlsb; one that is not wanted is an empty tensor [0].
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

/// Checks grad against the forward's result and what is wanted against adc_lsb; the type to compute in.
at::ScalarType check_backward(const char* op, const at::Tensor& grad, at::IntArrayRef shape, const TakenCall& taken);

/// Shape of a convolution's result, [..., out_channels, out_h, out_w], with the chips in front where they are stacked.
std::vector<std::int64_t> conv2d_shape(const CrossbarArgs& args, const kernels::Conv2dGeometry& g, const at::Tensor& x);

/// Makes what looks at the conversions of one chip, that of args.options.chip.
using ConversionsOfChip = std::function<std::unique_ptr<ConversionSource>(const CrossbarArgs& args)>;

/// The gradients of checked operands, on the device of the tensors. x and w as bytes, contiguous, in their own shapes;
/// `type` as check_backward found it. The step's gradient is where adc_lsb is: where that is the CPU and the others are
/// not, this waits for the device.
Gradients mvm_gradients(const char* op, const CrossbarArgs& args, const TakenCall& taken, at::ScalarType type,
                        const at::Tensor& x, const at::Tensor& w, const ConversionsOfChip& conversions);
Gradients conv2d_gradients(const char* op, const CrossbarArgs& args, const TakenCall& taken,
                           const kernels::Conv2dGeometry& geometry, at::ScalarType type, const at::Tensor& x,
                           const at::Tensor& w, const ConversionsOfChip& conversions);

/// Leaves the gradients that gradients_of(taken) finds on the stack.
template <Gradients (*kGradientsOf)(const TakenCall&)>
void push_gradients(const TakenCall& taken, torch::jit::Stack& results) {
  auto [dx, dw, dlsb] = kGradientsOf(taken);
  torch::jit::push(results, std::move(dx), std::move(dw), std::move(dlsb));
}

}  // namespace cimq::ops
