#include "ops/dense.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "kernels/dense.h"
#include "ops/support/parameter.h"

namespace cimq::ops {
namespace {

constexpr const char* kLinear = "linear_f32";
constexpr const char* kConv = "conv2d_f32";
constexpr std::int64_t kWorkPerThread = 1 << 18;  // multiplications that a thread is worth starting for

at::Tensor linear_f32_cpu(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias) {
  check_cpu(kLinear, "x", x);
  check_cpu(kLinear, "w", w);
  check_linear(x, w, bias);
  const std::int64_t inputs = w.size(1);
  const std::int64_t outputs = w.size(0);
  const at::Tensor source = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const CpuParameter added(kLinear, "bias", bias);
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  shape.back() = outputs;
  at::Tensor y = at::empty(shape, source.options());
  if (y.numel() == 0) return y;
  const std::int64_t grain = 1 + kWorkPerThread / (inputs * outputs);
  at::parallel_for(0, x.numel() / inputs, grain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::linear_f32(source.const_data_ptr<float>() + begin * inputs, weights.const_data_ptr<float>(),
                             added.data_or_null(), end - begin, inputs, outputs,
                             y.mutable_data_ptr<float>() + begin * outputs);
  });
  return y;
}

at::Tensor conv2d_f32_cpu(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                          at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                          std::int64_t groups) {
  check_cpu(kConv, "x", x);
  check_cpu(kConv, "w", w);
  const kernels::Conv2dGeometry g = check_conv2d(x, w, bias, {stride, padding, dilation, groups});
  const std::int64_t h = x.size(2);
  const std::int64_t width = x.size(3);
  const at::Tensor source = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const CpuParameter added(kConv, "bias", bias);
  at::Tensor y = at::empty({x.size(0), w.size(0), g.out_h(h), g.out_w(width)}, source.options());
  const std::int64_t image = x.size(1) * h * width;
  const std::int64_t result = w.size(0) * g.out_h(h) * g.out_w(width);
  const std::int64_t grain = 1 + kWorkPerThread / std::max<std::int64_t>(1, result * g.inputs_per_output());
  at::parallel_for(0, x.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::conv2d_f32(source.const_data_ptr<float>() + begin * image, weights.const_data_ptr<float>(),
                             added.data_or_null(), g, end - begin, h, width,
                             y.mutable_data_ptr<float>() + begin * result);
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("linear_f32", TORCH_FN(cimq::ops::linear_f32_cpu));
  m.impl("conv2d_f32", TORCH_FN(cimq::ops::conv2d_f32_cpu));
}
