// Calls the kernels of integer products with tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <type_traits>

#include "kernels/cuda/integer_product.h"
#include "ops/cuda/device_call.h"
#include "ops/support/checks.h"

namespace cimq::ops {

/// Strides of float32 images [n, c, h, w], or of a matrix [n, c].
inline kernels::cuda::StridedFloats strided_floats(const at::Tensor& values) {
  kernels::cuda::StridedFloats result;
  result.data = values.const_data_ptr<float>();
  for (std::int64_t d = 0; d < values.dim(); ++d) result.stride[d] = values.stride(d);
  return result;
}

/// y = x * w, whose type says what is wanted. Floats are NaN where a value is no integer of its range; for int32, which
/// have none, this waits for the device and raises ValueError, unless a graph is being captured.
inline void integer_product(const char* op, const DeviceCall& call, const kernels::cuda::IntegerShape& shape,
                            const at::Tensor& x, const at::Tensor& w, const kernels::cuda::IntegerRanges& ranges,
                            at::Tensor& y) {
  translate_errors(op, [&] {
    kernels::cuda::check_integer_product(op, shape, ranges);
    return true;
  });
  const at::Tensor scratch = at::empty({kernels::cuda::integer_product_scratch(shape)}, x.options().dtype(at::kByte));
  at::Tensor faults = at::zeros({1}, x.options().dtype(at::kInt));
  auto* const bytes = static_cast<std::byte*>(scratch.mutable_data_ptr());
  call.run([&](kernels::cuda::Stream stream) {
    const auto start = [&](auto* results) {
      kernels::cuda::integer_product(op, shape, strided_floats(x), strided_floats(w), ranges, bytes,
                                     faults.mutable_data_ptr<int>(), results, stream);
    };
    y.scalar_type() == at::kFloat ? start(y.mutable_data_ptr<float>()) : start(y.mutable_data_ptr<std::int32_t>());
  });
  if (y.scalar_type() == at::kFloat || is_capturing()) return;
  TORCH_CHECK_VALUE(faults.item<int>() == 0, op, ": x must hold integers in ", ranges.x.lo, "..", ranges.x.hi,
                    " and w in ", ranges.w.lo, "..", ranges.w.hi);
}

}  // namespace cimq::ops
