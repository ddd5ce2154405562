// What the glue sees of torch's CUDA: device type and dispatch key, the current device and stream, graphs that are
// being captured. The tests supply the same names for an emulated device (CIMQ_CUDA_EMULATION), so that the sources of
// the glue run where there is no GPU. Sources of the glue include this and nothing of c10/cuda or ATen/cuda.
#pragma once

#if defined(CIMQ_CUDA_EMULATION)
#include "emulated_device/torch_device.h"
#else

#include <c10/core/DeviceType.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/cuda/stream.h"

/// The key that kernels of the device are registered for: TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m).
#define CIMQ_DEVICE_KEY CUDA

namespace cimq::ops {

inline constexpr c10::DeviceType kDeviceType = c10::DeviceType::CUDA;

/// While it lives, its device is current.
using CurrentDevice = c10::cuda::CUDAGuard;

/// torch's current stream of the current device.
inline kernels::cuda::Stream current_stream() { return {c10::cuda::getCurrentCUDAStream().stream()}; }

/// Whether the current stream records a graph: nothing may wait for the device then.
inline bool is_capturing() {
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

}  // namespace cimq::ops

#endif
