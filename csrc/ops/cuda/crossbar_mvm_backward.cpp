#include <torch/library.h>

#include "ops/cuda/crossbar_operands.h"
#include "ops/cuda/device_conversions.h"
#include "ops/support/crossbar_backward.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kMvmBackward.name;

Gradients crossbar_mvm_backward_cuda(const TakenCall& taken) {
  const at::Tensor& grad = taken.operands[0];
  const at::Tensor& x_q = taken.operands[1];
  const at::Tensor& w_q = taken.operands[2];
  check_cuda(kName, "grad", grad, x_q);
  const auto [device, call] = CrossbarOnDevice(kName, x_q, w_q, taken.call);
  const CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  check_mvm_operands(kName, x_q, w_q);
  refuse_reference(kName, args);
  const auto type = check_backward(kName, grad, mvm_shape(args, x_q, w_q), taken);
  // The forward has looked at the values: nobody waits for that again.
  NarrowedOperands operands(kName, device);
  const at::Tensor x = operands.add_activations(x_q, call);
  const at::Tensor w = operands.add_weights(w_q, call);
  return mvm_gradients(kName, args, taken, type, x, w, conversions_on_device(kName, device, call, w, 1));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  using namespace cimq::ops;
  m.impl(kMvmBackward.name, torch::CppFunction::makeFromBoxedFunction<
                                &boxed_kernel<kMvmBackward, push_gradients<crossbar_mvm_backward_cuda>>>());
}
