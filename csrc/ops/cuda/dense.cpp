#include "ops/dense.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <vector>

#include "kernels/dense.h"
#include "ops/cuda/parameter.h"
#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kLinear = "linear_f32";
constexpr const char* kConv = "conv2d_f32";

at::Tensor linear_f32_cuda(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias) {
  check_cuda(kLinear, "x", x, x);
  check_cuda(kLinear, "w", w, x);
  check_linear(x, w, bias);
  const DeviceCall call(x);
  const std::int64_t inputs = w.size(1);
  const std::int64_t outputs = w.size(0);
  const at::Tensor source = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const DeviceParameter added(kLinear, "bias", bias, x);
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  shape.back() = outputs;
  at::Tensor y = at::empty(shape, source.options());
  if (y.numel() == 0) return y;
  translate_errors(kLinear, [&] {
    call.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::linear_f32(source.const_data_ptr<float>(), weights.const_data_ptr<float>(), added.data_or_null(),
                                x.numel() / inputs, inputs, outputs, y.mutable_data_ptr<float>(), stream);
    });
    return true;
  });
  return y;
}

at::Tensor conv2d_f32_cuda(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                           at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                           std::int64_t groups) {
  check_cuda(kConv, "x", x, x);
  check_cuda(kConv, "w", w, x);
  const kernels::Conv2dGeometry g = check_conv2d(x, w, bias, {stride, padding, dilation, groups});
  const DeviceCall call(x);
  const std::int64_t h = x.size(2);
  const std::int64_t width = x.size(3);
  const at::Tensor source = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const DeviceParameter added(kConv, "bias", bias, x);
  at::Tensor y = at::empty({x.size(0), w.size(0), g.out_h(h), g.out_w(width)}, source.options());
  translate_errors(kConv, [&] {
    call.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::conv2d_f32(source.const_data_ptr<float>(), weights.const_data_ptr<float>(), added.data_or_null(),
                                g, x.size(0), h, width, y.mutable_data_ptr<float>(), stream);
    });
    return true;
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  m.impl("linear_f32", TORCH_FN(cimq::ops::linear_f32_cuda));
  m.impl("conv2d_f32", TORCH_FN(cimq::ops::conv2d_f32_cuda));
}
