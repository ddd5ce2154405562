#include <torch/library.h>

#include "ops/cuda/crossbar_operands.h"
#include "ops/cuda/device_conversions.h"
#include "ops/support/crossbar_backward.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kConv2dBackward.name;

Gradients crossbar_conv2d_backward_cuda(const TakenCall& taken) {
  const at::Tensor& grad = taken.operands[0];
  const at::Tensor& x_q = taken.operands[1];
  const at::Tensor& w_q = taken.operands[2];
  check_cuda(kName, "grad", grad, x_q);
  const auto [device, call] = CrossbarOnDevice(kName, x_q, w_q, taken.call);
  const CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  const kernels::Conv2dGeometry g = parse_geometry(kName, x_q, w_q, conv_request(call));
  refuse_reference(kName, args);
  const auto type = check_backward(kName, grad, conv2d_shape(args, g, x_q), taken);
  // The forward has looked at the values: nobody waits for that again.
  NarrowedOperands operands(kName, device);
  const at::Tensor x = operands.add_activations(x_q, call);
  const at::Tensor w = operands.add_weights(w_q, call);
  return conv2d_gradients(kName, args, taken, g, type, x, w, conversions_on_device(kName, device, call, w, g.groups));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  using namespace cimq::ops;
  m.impl(kConv2dBackward.name, torch::CppFunction::makeFromBoxedFunction<
                                   &boxed_kernel<kConv2dBackward, push_gradients<crossbar_conv2d_backward_cuda>>>());
}
