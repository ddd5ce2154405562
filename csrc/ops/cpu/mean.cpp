#include "ops/mean.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/pooling.h"
#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "mean";

at::Tensor mean_cpu(const at::Tensor& x, at::IntArrayRef dim, bool keepdim) {
  check_cpu(kName, "x", x);
  check_float(kName, "x", x);
  const std::vector<std::int64_t> dims = mean_dims(dim, x.dim());
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty(mean_shape(x, dims, keepdim), source.options());
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  if (y.numel() == 0) return y;
  // The first dimension that stays, if it is dimension 0, is shared out: a thread gets whole results.
  const bool split = dims[0] != 0;
  const std::int64_t parts = split ? x.size(0) : 1;
  const std::int64_t in = x.numel() / parts;
  const std::int64_t out = y.numel() / parts;
  const std::int64_t grain = 1 + (std::int64_t{1} << 15) / in;
  translate_errors(kName, [&] {
    at::parallel_for(0, parts, grain, [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::int64_t> sizes(x.sizes().begin(), x.sizes().end());
      if (split) sizes[0] = end - begin;
      kernels::cpu::mean(from + begin * in, sizes, dims, to + begin * out);
    });
    return true;
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("mean", TORCH_FN(cimq::ops::mean_cpu)); }
