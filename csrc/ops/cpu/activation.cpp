#include "ops/activation.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

at::Tensor activation_cpu(const at::Tensor& x, c10::string_view name, double alpha) {
  const kernels::Activation kind = activation_kind(name);
  check_cpu("activation", "x", x);
  check_activation(x, alpha);
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  constexpr std::int64_t kGrain = std::int64_t{1} << 12;
  at::parallel_for(0, source.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::activation(kind, from + begin, end - begin, to + begin, static_cast<float>(alpha));
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("activation", TORCH_FN(cimq::ops::activation_cpu)); }
