// Memory of torch that kernels work in.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "kernels/noise/ir_drop.h"

namespace cimq::ops {

/// What programming `groups` matrices of a plan needs beside the cells, on the device of `w`: nothing where wires have
/// no resistance.
inline at::Tensor programming_memory(const Hardware& hardware, const kernels::MvmPlan& plan, std::int64_t groups,
                                     const at::Tensor& w) {
  const std::size_t bytes = kernels::cuda::ir_drop_bytes(kernels::IrDrop::of(hardware), plan, hardware, groups);
  return at::empty({static_cast<std::int64_t>(bytes)}, w.options().dtype(at::kByte));
}

inline kernels::cuda::WorkMemory work_memory(const at::Tensor& bytes) {
  return {bytes.mutable_data_ptr(), static_cast<std::size_t>(bytes.numel())};
}

}  // namespace cimq::ops
