// What the operators on images share: checks, and the loop over planes on several threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "ops/support/checks.h"

namespace cimq::ops {

/// Refuses everything but float32 [batch, channels, height, width].
inline void check_images(const char* op, const at::Tensor& x) {
  check_float(op, "x", x);
  TORCH_CHECK_VALUE(x.dim() == 4, op, ": x must be [batch, channels, height, width], got shape ", x.sizes());
}

/// [N, C, out_h, out_w] from x [N, C, H, W] on the CPU: `kernel(from, planes, to)` for ranges of the N * C planes.
/// `work` is about the operations of one element. The ranges do not enter the result.
template <typename Kernel>
at::Tensor on_planes(const char* op, const at::Tensor& x, std::int64_t out_h, std::int64_t out_w, std::int64_t work,
                     const Kernel& kernel) {
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty({x.size(0), x.size(1), out_h, out_w}, source.options());
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  const std::int64_t in = x.size(2) * x.size(3);
  const std::int64_t out = out_h * out_w;
  const std::int64_t grain = 1 + (std::int64_t{1} << 15) / std::max<std::int64_t>(1, out * work);
  translate_errors(op, [&] {
    at::parallel_for(0, x.size(0) * x.size(1), grain, [&](std::int64_t begin, std::int64_t end) {
      kernel(from + begin * in, end - begin, to + begin * out);
    });
    return true;
  });
  return y;
}

}  // namespace cimq::ops
