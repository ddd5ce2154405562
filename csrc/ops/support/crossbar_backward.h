// What crossbar_mvm_backward and crossbar_conv2d_backward share.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>
#include <utility>
#include <vector>

#include "ops/support/crossbar_args.h"
#include "ops/support/matrix_backward.h"

namespace cimq::ops {

/// dx, dw, dlsb; one that is not wanted is an empty tensor [0].
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

/// Checks grad against the forward's result and what is wanted against adc_lsb; the type to compute in.
at::ScalarType check_backward(const char* op, const at::Tensor& grad, at::IntArrayRef shape, const TakenCall& taken);

/// Calls run(gradient of one chip) with args.options.chip set. grad: [chips, ...]. Chips without variation have the
/// same conversions: the sum of their gradients is enough.
template <typename Run>
void for_each_chip(CrossbarArgs& args, const at::Tensor& grad, const Run& run) {
  if (!args.hardware->varies()) {
    run(grad.sum(0));
    return;
  }
  for (std::int64_t chip = 0; chip < args.chips; ++chip) {
    args.options.chip = static_cast<std::uint32_t>(chip);
    run(grad.select(0, chip));
  }
}

/// The step's gradient as a tensor like adc_lsb, or an empty one.
at::Tensor step_gradient(const at::Tensor& grad, const TakenCall& taken, const std::vector<double>& sums);

/// Leaves the gradients that gradients_of(taken) finds on the stack.
template <Gradients (*kGradientsOf)(const TakenCall&)>
void push_gradients(const TakenCall& taken, torch::jit::Stack& results) {
  auto [dx, dw, dlsb] = kGradientsOf(taken);
  torch::jit::push(results, std::move(dx), std::move(dw), std::move(dlsb));
}

}  // namespace cimq::ops
