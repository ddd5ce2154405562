#include "ops/mean.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "kernels/pooling.h"
#include "ops/cuda/device_call.h"
#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "mean";

/// x as [outer, n, inner], whose middle is averaged.
struct Lines {
  at::Tensor values;
  std::int64_t outer = 1, n = 1, inner = 1;
};

/// Dimensions that are averaged and lie next to each other are one. Where others lie between them, x is copied with
/// them at the end: in their order, so that the sum has the order of x's memory all the same.
Lines lines_of(const at::Tensor& x, const std::vector<std::int64_t>& dims) {
  Lines lines;
  const bool together = dims.back() - dims.front() + 1 == static_cast<std::int64_t>(dims.size());
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < x.dim(); ++i) {
    if (std::binary_search(dims.begin(), dims.end(), i)) {
      lines.n *= x.size(i);
      continue;
    }
    order.push_back(i);
    (together && i > dims.back() ? lines.inner : lines.outer) *= x.size(i);
  }
  order.insert(order.end(), dims.begin(), dims.end());
  lines.values = together ? x.contiguous() : x.permute(order).contiguous();
  return lines;
}

at::Tensor mean_cuda(const at::Tensor& x, at::IntArrayRef dim, bool keepdim) {
  check_cuda(kName, "x", x, x);
  check_float(kName, "x", x);
  const std::vector<std::int64_t> dims = mean_dims(dim, x.dim());
  const DeviceCall call(x);
  at::Tensor y = at::empty(mean_shape(x, dims, keepdim), x.options());
  if (y.numel() == 0) return y;
  const Lines lines = lines_of(x, dims);
  call.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::mean(lines.values.const_data_ptr<float>(), lines.outer, lines.n, lines.inner,
                        y.mutable_data_ptr<float>(), stream);
  });
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) { m.impl("mean", TORCH_FN(cimq::ops::mean_cuda)); }
