#include "ops/normalization.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/normalization.h"
#include "ops/support/parameter.h"

namespace cimq::ops {
namespace {

constexpr const char* kLayer = "layer_norm";
constexpr const char* kGroup = "group_norm";
constexpr std::int64_t kValuesPerThread = 1 << 14;

at::Tensor layer_norm_cpu(const at::Tensor& x, at::IntArrayRef normalized_shape,
                          const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias, double eps) {
  check_cpu(kLayer, "x", x);
  check_layer_norm(x, normalized_shape, weight, bias, eps);
  const at::Tensor source = x.contiguous();
  const CpuParameter scale(kLayer, "weight", weight);
  const CpuParameter shift(kLayer, "bias", bias);
  at::Tensor y = at::empty_like(source);
  std::int64_t n = 1;
  for (const std::int64_t size : normalized_shape) n *= size;
  if (source.numel() == 0) return y;
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  at::parallel_for(0, source.numel() / n, 1 + kValuesPerThread / n, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::layer_norm(from + begin * n, end - begin, n, scale.data_or_null(), shift.data_or_null(), eps,
                             to + begin * n);
  });
  return y;
}

at::Tensor group_norm_cpu(const at::Tensor& x, std::int64_t groups, const std::optional<at::Tensor>& weight,
                          const std::optional<at::Tensor>& bias, double eps) {
  check_cpu(kGroup, "x", x);
  check_group_norm(x, groups, weight, bias, eps);
  const std::int64_t channels = x.size(1);
  const at::Tensor source = x.contiguous();
  const CpuParameter scale(kGroup, "weight", weight);
  const CpuParameter shift(kGroup, "bias", bias);
  at::Tensor y = at::empty_like(source);
  if (source.numel() == 0) return y;
  const std::int64_t sample = source.numel() / x.size(0);
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  at::parallel_for(0, x.size(0), 1 + kValuesPerThread / sample, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::group_norm(from + begin * sample, end - begin, channels, sample / channels, groups,
                             scale.data_or_null(), shift.data_or_null(), eps, to + begin * sample);
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("layer_norm", TORCH_FN(cimq::ops::layer_norm_cpu));
  m.impl("group_norm", TORCH_FN(cimq::ops::group_norm_cpu));
}
