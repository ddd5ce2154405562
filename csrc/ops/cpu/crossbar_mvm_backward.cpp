#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "ops/support/checks.h"
#include "ops/support/crossbar_backward.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kMvmBackward.name;

Gradients crossbar_mvm_backward_cpu(const TakenCall& taken) {
  const at::Tensor& grad = taken.operands[0];
  const at::Tensor& x_q = taken.operands[1];
  const at::Tensor& w_q = taken.operands[2];
  const CrossbarCall& call = taken.call;
  CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  check_mvm_operands(kName, x_q, w_q);
  check_cpu(kName, "grad", grad);
  const auto type = check_backward(kName, grad, mvm_shape(args, x_q, w_q), taken);
  const at::Tensor x = rows_of(narrowed(kName, "x_q", x_q, activation_range(call.act_bits, call.act_signed)));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(call.weight_bits));
  const WantedGradients want{taken.wanted, args.clip};
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
  return {want.x ? dx.view(x_q.sizes()) : dx, dw, step_gradient(grad, taken, dlsb)};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  using namespace cimq::ops;
  m.impl(kMvmBackward.name, torch::CppFunction::makeFromBoxedFunction<
                                &boxed_kernel<kMvmBackward, push_gradients<crossbar_mvm_backward_cpu>>>());
}
