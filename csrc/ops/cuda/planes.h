// What the operators on images share on a CUDA device (ops/support/planes.h is their loop on the CPU).
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "ops/cuda/device_call.h"
#include "ops/support/checks.h"

namespace cimq::ops {

/// [N, C, out_h, out_w] from x [N, C, H, W]: `kernel(from, to, stream)` for all planes.
template <typename Kernel>
at::Tensor on_device_planes(const char* op, const at::Tensor& x, std::int64_t out_h, std::int64_t out_w,
                            const Kernel& kernel) {
  const DeviceCall call(x);
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty({x.size(0), x.size(1), out_h, out_w}, source.options());
  translate_errors(op, [&] {
    call.run([&](kernels::cuda::Stream stream) {
      kernel(source.const_data_ptr<float>(), y.mutable_data_ptr<float>(), stream);
    });
    return true;
  });
  return y;
}

}  // namespace cimq::ops
