#include "ops/normalization.h"

#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/normalization.h"
#include "ops/cuda/parameter.h"

namespace cimq::ops {
namespace {

constexpr const char* kLayer = "layer_norm";
constexpr const char* kGroup = "group_norm";

at::Tensor layer_norm_cuda(const at::Tensor& x, at::IntArrayRef normalized_shape,
                           const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias, double eps) {
  check_cuda(kLayer, "x", x, x);
  check_layer_norm(x, normalized_shape, weight, bias, eps);
  const DeviceCall call(x);
  const at::Tensor source = x.contiguous();
  const DeviceParameter scale(kLayer, "weight", weight, x);
  const DeviceParameter shift(kLayer, "bias", bias, x);
  at::Tensor y = at::empty_like(source);
  if (source.numel() == 0) return y;
  std::int64_t n = 1;
  for (const std::int64_t size : normalized_shape) n *= size;
  call.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::layer_norm(source.const_data_ptr<float>(), source.numel() / n, n, scale.data_or_null(),
                              shift.data_or_null(), eps, y.mutable_data_ptr<float>(), stream);
  });
  return y;
}

at::Tensor group_norm_cuda(const at::Tensor& x, std::int64_t groups, const std::optional<at::Tensor>& weight,
                           const std::optional<at::Tensor>& bias, double eps) {
  check_cuda(kGroup, "x", x, x);
  check_group_norm(x, groups, weight, bias, eps);
  const DeviceCall call(x);
  const std::int64_t channels = x.size(1);
  const at::Tensor source = x.contiguous();
  const DeviceParameter scale(kGroup, "weight", weight, x);
  const DeviceParameter shift(kGroup, "bias", bias, x);
  at::Tensor y = at::empty_like(source);
  if (source.numel() == 0) return y;
  call.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::group_norm(source.const_data_ptr<float>(), x.size(0), channels,
                              source.numel() / (x.size(0) * channels), groups, scale.data_or_null(),
                              shift.data_or_null(), eps, y.mutable_data_ptr<float>(), stream);
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  m.impl("layer_norm", TORCH_FN(cimq::ops::layer_norm_cuda));
  m.impl("group_norm", TORCH_FN(cimq::ops::group_norm_cuda));
}
