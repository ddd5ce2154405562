#include "ops/softmax.h"

#include <ATen/WrapDimUtils.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/softmax.h"
#include "ops/cuda/device_call.h"

namespace cimq::ops {
namespace {

at::Tensor softmax_cuda(const at::Tensor& x, std::int64_t dim, bool logarithm) {
  check_cuda("softmax", "x", x, x);
  check_softmax(x, dim);
  const std::int64_t axis = at::maybe_wrap_dim(dim, x.dim());
  const DeviceCall call(x);
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  if (source.numel() == 0) return y;
  const std::int64_t n = x.size(axis);
  std::int64_t inner = 1;
  for (std::int64_t i = axis + 1; i < x.dim(); ++i) inner *= x.size(i);
  call.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::softmax(source.const_data_ptr<float>(), source.numel() / (n * inner), n, inner, logarithm,
                           y.mutable_data_ptr<float>(), stream);
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) { m.impl("softmax", TORCH_FN(cimq::ops::softmax_cuda)); }
