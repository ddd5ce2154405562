// cimq::crossbar_mvm_backward: the gradients of crossbar_mvm that need to know what the converters did.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops/support/checks.h"
#include "ops/support/crossbar_backward.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "crossbar_mvm_backward";

}  // namespace

Gradients crossbar_mvm_backward_cpu(const at::Tensor& grad, const at::Tensor& x_q, const at::Tensor& w_q,
                                    c10::string_view hardware, std::int64_t weight_bits, std::int64_t act_bits,
                                    bool act_signed, std::optional<std::int64_t> chips, std::int64_t seed,
                                    std::int64_t layer, const std::optional<at::Tensor>& adc_lo,
                                    const std::optional<at::Tensor>& adc_lsb, std::int64_t first_access,
                                    c10::string_view adc_grad, std::array<bool, 3> wanted) {
  const std::string json(hardware);
  CrossbarArgs args = parse_request(kName, {json, outputs_of(w_q), weight_bits, act_bits, act_signed, chips, seed,
                                            layer, adc_lo, adc_lsb, "auto", first_access, adc_grad});
  check_mvm_operands(kName, x_q, w_q);
  const auto type = check_backward(kName, grad, mvm_shape(args, x_q, w_q), wanted, adc_lsb);
  const at::Tensor x = rows_of(narrowed(kName, "x_q", x_q, activation_range(act_bits, act_signed)));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(weight_bits));
  const WantedGradients want{wanted[0], wanted[1], wanted[2], args.clip};
  const at::Tensor upstream = grad.to(type).reshape({args.chips, x.size(0), w.size(0)});
  at::Tensor dx = at::zeros(want.x ? x.sizes() : at::IntArrayRef{0}, upstream.options());
  const at::Tensor dw = at::zeros(want.w ? w.sizes() : at::IntArrayRef{0}, upstream.options());
  const at::Tensor of_chip = at::empty_like(dx);
  std::vector<double> dlsb(args.options.adc_lsb.size(), 0.0);
  translate_errors(kName, [&] {
    for_each_chip(args, upstream, [&](const at::Tensor& chip_grad) {
      const MatrixBackward matrix(*args.hardware, w, args.options, want, type);
      matrix.add(x, chip_grad, of_chip, dw, dlsb, args.first_access);
      if (want.x) dx.add_(of_chip);
    });
    return true;
  });
  return {want.x ? dx.view(x_q.sizes()) : dx, dw, step_gradient(grad, adc_lsb, want.lsb, dlsb)};
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "crossbar_mvm_backward(Tensor grad, Tensor x_q, Tensor w_q, str hardware, int weight_bits, int act_bits, "
      "bool act_signed=False, int? chips=None, int seed=0, int layer=0, Tensor? adc_lo=None, Tensor? adc_lsb=None, "
      "int first_access=0, str adc_grad=\"identity\", bool[3] wanted=[True, True, True]) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("crossbar_mvm_backward", TORCH_FN(cimq::ops::crossbar_mvm_backward_cpu)); }

// There are no second derivatives of a straight-through estimator.
TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("crossbar_mvm_backward", torch::autograd::autogradNotImplementedFallback());
}
