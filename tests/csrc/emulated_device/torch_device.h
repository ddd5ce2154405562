// What csrc/ops/cuda/torch_device.h is for CUDA, for the emulated device: what the glue sees of torch's device.
#pragma once

#include <c10/core/DeviceGuard.h>
#include <c10/core/DeviceType.h>

#include "emulated_device/devices.h"
#include "kernels/cuda/stream.h"

#define CIMQ_DEVICE_KEY PrivateUse1

namespace cimq::ops {

inline constexpr c10::DeviceType kDeviceType = emulated_device::kType;

using CurrentDevice = c10::DeviceGuard;

inline kernels::cuda::Stream current_stream() {
  return {emulated_device::stream_handle(emulated_device::current_stream(emulated_device::current_device()))};
}

inline bool is_capturing() { return emulated_device::is_capturing(); }

}  // namespace cimq::ops
