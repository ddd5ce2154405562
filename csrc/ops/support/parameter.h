// A float32 parameter of a layer that may be missing, as the CPU kernels take it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/support/checks.h"

namespace cimq::ops {

class CpuParameter {
 public:
  CpuParameter(const char* op, const char* name, const std::optional<at::Tensor>& values) {
    const at::Tensor found = values.value_or(at::Tensor());
    if (!found.defined()) return;
    check_cpu(op, name, found);
    values_ = found.contiguous();
  }
  const float* data_or_null() const { return values_.defined() ? values_.const_data_ptr<float>() : nullptr; }

 private:
  at::Tensor values_;
};

}  // namespace cimq::ops
