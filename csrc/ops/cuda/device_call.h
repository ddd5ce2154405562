// What every CUDA kernel's glue needs of torch: the device of the operands, its current stream, errors of launches.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "kernels/cuda/launch_error.h"
#include "kernels/cuda/stream.h"
#include "kernels/fake_quantize.h"
#include "ops/cuda/torch_device.h"
#include "ops/support/quantizer_args.h"

namespace cimq::ops {

/// Refuses tensors that are not dense, not on a CUDA device, or not on that of `x` (the operator's first operand).
inline void check_cuda(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& x) {
  TORCH_CHECK_VALUE(tensor.device().type() == kDeviceType && tensor.layout() == at::kStrided, op, ": ", name,
                    " must be a dense CUDA tensor, got device ", tensor.device().str(), " and layout ",
                    tensor.layout());
  TORCH_CHECK_VALUE(tensor.device() == x.device(), op, ": ", name, " must be on x's device ", x.device().str(),
                    ", got ", tensor.device().str());
}

/// While it lives, the device of `tensor` is current.
class DeviceCall {
 public:
  /// `op`: named in errors of launches whose kernels several operators use.
  explicit DeviceCall(const at::Tensor& tensor, const char* op = "") : op_(op), guard_(tensor.device()) {}

  /// Runs launch(stream) on the current stream of the device. A launch that fails is a RuntimeError which names op,
  /// shape and architecture: not the caller's values are at fault.
  template <typename Launch>
  void run(const Launch& launch) const {
    try {
      launch(current_stream());
    } catch (const kernels::cuda::LaunchError& error) {
      const std::string text = error.what();
      const bool named = text.rfind(op_, 0) == 0;
      TORCH_CHECK(false, named ? "" : op_, named ? "" : ": ", text);
    }
  }

 private:
  const char* op_;
  CurrentDevice guard_;
};

inline kernels::ScaledValues scaled_values(const ScaledRows& rows) { return {rows.rows, rows.channels, rows.inner}; }

}  // namespace cimq::ops
