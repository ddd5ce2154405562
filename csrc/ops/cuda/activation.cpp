#include "ops/activation.h"

#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "ops/cuda/device_call.h"

namespace cimq::ops {
namespace {

at::Tensor activation_cuda(const at::Tensor& x, c10::string_view name, double alpha) {
  const kernels::Activation kind = activation_kind(name);
  check_cuda("activation", "x", x, x);
  check_activation(x, alpha);
  const DeviceCall call(x);
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  call.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::activation(kind, source.const_data_ptr<float>(), source.numel(), y.mutable_data_ptr<float>(),
                              static_cast<float>(alpha), stream);
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) { m.impl("activation", TORCH_FN(cimq::ops::activation_cuda)); }
