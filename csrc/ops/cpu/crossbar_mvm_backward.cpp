#include <torch/library.h>

#include "ops/cpu/processor_conversions.h"
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
  const CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  check_mvm_operands(kName, x_q, w_q);
  check_cpu(kName, "grad", grad);
  const auto type = check_backward(kName, grad, mvm_shape(args, x_q, w_q), taken);
  const at::Tensor x = narrowed(kName, "x_q", x_q, activation_range(call.act_bits, call.act_signed));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(call.weight_bits));
  return mvm_gradients(kName, args, taken, type, x, w, ProcessorConversions::of(w, 1));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  using namespace cimq::ops;
  m.impl(kMvmBackward.name, torch::CppFunction::makeFromBoxedFunction<
                                &boxed_kernel<kMvmBackward, push_gradients<crossbar_mvm_backward_cpu>>>());
}
