// A float32 parameter of a layer that may be missing, as the CUDA kernels take it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/cuda/device_call.h"

namespace cimq::ops {

class DeviceParameter {
 public:
  /// @param x  the operator's first operand, on whose device the parameter must be
  DeviceParameter(const char* op, const char* name, const std::optional<at::Tensor>& values, const at::Tensor& x) {
    const at::Tensor found = values.value_or(at::Tensor());
    if (!found.defined()) return;
    check_cuda(op, name, found, x);
    values_ = found.contiguous();
  }
  const float* data_or_null() const { return values_.defined() ? values_.const_data_ptr<float>() : nullptr; }

 private:
  at::Tensor values_;
};

}  // namespace cimq::ops
