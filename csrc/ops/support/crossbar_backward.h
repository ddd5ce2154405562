// What crossbar_mvm_backward and crossbar_conv2d_backward share, and their signatures for the autograd of the forwards.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "ops/support/crossbar_args.h"
#include "ops/support/matrix_backward.h"

namespace cimq::ops {

/// dx, dw, dlsb; one that is not wanted is an empty tensor [0].
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

Gradients crossbar_mvm_backward_cpu(const at::Tensor& grad, const at::Tensor& x_q, const at::Tensor& w_q,
                                    c10::string_view hardware, std::int64_t weight_bits, std::int64_t act_bits,
                                    bool act_signed, std::optional<std::int64_t> chips, std::int64_t seed,
                                    std::int64_t layer, const std::optional<at::Tensor>& adc_lo,
                                    const std::optional<at::Tensor>& adc_lsb, std::int64_t first_access,
                                    c10::string_view adc_grad, std::array<bool, 3> wanted);

Gradients crossbar_conv2d_backward_cpu(const at::Tensor& grad, const at::Tensor& x_q, const at::Tensor& w_q,
                                       c10::string_view hardware, std::int64_t weight_bits, std::int64_t act_bits,
                                       bool act_signed, at::IntArrayRef stride, at::IntArrayRef padding,
                                       at::IntArrayRef dilation, std::int64_t groups, std::optional<std::int64_t> chips,
                                       std::int64_t seed, std::int64_t layer, const std::optional<at::Tensor>& adc_lo,
                                       const std::optional<at::Tensor>& adc_lsb, std::int64_t first_access,
                                       c10::string_view adc_grad, std::array<bool, 3> wanted);

/// The converter's range among the saved tensors of a forward, where a missing one is undefined.
class StepInput {
 public:
  StepInput(const at::Tensor& lo, const at::Tensor& lsb) : lo_(lo), lsb_(lsb) {}
  std::optional<at::Tensor> lo() const { return lo_.defined() ? std::optional(lo_) : std::nullopt; }
  std::optional<at::Tensor> lsb() const { return lsb_.defined() ? std::optional(lsb_) : std::nullopt; }
  /// Autograd numbers the inputs that are there: x, w, lo, lsb.
  bool wanted(const torch::autograd::AutogradContext& ctx) const {
    return lsb_.defined() && ctx.needs_input_grad(lo_.defined() ? 3 : 2);
  }

 private:
  at::Tensor lo_;
  at::Tensor lsb_;
};

/// Checks grad against the forward's result and what is wanted against adc_lsb; the type to compute in.
at::ScalarType check_backward(const char* op, const at::Tensor& grad, at::IntArrayRef shape,
                              const std::array<bool, 3>& wanted, const std::optional<at::Tensor>& adc_lsb);

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
at::Tensor step_gradient(const at::Tensor& grad, const std::optional<at::Tensor>& adc_lsb, bool wanted,
                         const std::vector<double>& sums);

}  // namespace cimq::ops
