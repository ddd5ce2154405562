#include "ops/softmax.h"

#include <ATen/Parallel.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/softmax.h"
#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kValuesPerThread = 1 << 12;

at::Tensor softmax_cpu(const at::Tensor& x, std::int64_t dim, bool logarithm) {
  check_cpu("softmax", "x", x);
  check_softmax(x, dim);
  const std::int64_t axis = at::maybe_wrap_dim(dim, x.dim());
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  const std::int64_t n = x.size(axis);
  std::int64_t inner = 1;
  for (std::int64_t i = axis + 1; i < x.dim(); ++i) inner *= x.size(i);
  const std::int64_t block = n * inner;
  if (block == 0) return y;
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  const std::int64_t grain = 1 + kValuesPerThread / block;
  at::parallel_for(0, source.numel() / block, grain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::softmax(from + begin * block, end - begin, n, inner, logarithm, to + begin * block);
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("softmax", TORCH_FN(cimq::ops::softmax_cpu)); }
