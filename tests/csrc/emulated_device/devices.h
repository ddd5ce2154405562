// The emulated devices: which is current, their streams, what was launched on them and what waited for them.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <string>
#include <vector>

#include "emulated_device/memory.h"

namespace cimq::emulated_device {

/// What torch calls the devices: torch.device("emulated:1").
constexpr const char* kName = "emulated";
constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;

inline c10::Device device(int index) { return {kType, static_cast<c10::DeviceIndex>(index)}; }

// ---- of the calling thread, as in CUDA ----
int current_device();
/// Throws c10::Error where there is no such device.
void set_current_device(int index);
int checked_index(c10::Device device);  ///< that of the current device where `device` has none

c10::Stream current_stream(int index);
c10::Stream default_stream(int index);
/// One of the streams besides the default one, in turn.
c10::Stream stream_from_pool(int index);
/// Makes it the current stream of its device and returns the one before.
c10::Stream exchange_stream(c10::Stream stream);

/// What kernels::cuda::Stream::handle is for it. Never null.
void* stream_handle(c10::Stream stream);

// ---- of the process ----

/// One launch of a kernel.
struct Launch {
  std::string kernel;
  int device = 0;
  std::int64_t stream = 0;
};

/// Launches since `forget_launches`, in order.
std::vector<Launch> launches();
void forget_launches();

/// The next launch, or that of `kernel` where it is not empty, fails for this reason, as launches of CUDA do, e.g.
/// where memory lacks.
void fail_next_launch(const std::string& reason, const std::string& kernel = "");

/// While a graph is captured nothing may wait for the device.
void set_capturing(bool capturing);
bool is_capturing();

/// The host needs what the device has computed: counted, and an error while a graph is captured.
void wait_for_device(const std::string& what);
std::int64_t waits();

/// While it lives, waits of this thread are those of an operator of torch that the CPU computes in the place of a
/// kernel of the device: they are none.
class StandsForKernel {
 public:
  StandsForKernel();
  ~StandsForKernel();
  StandsForKernel(const StandsForKernel&) = delete;
  StandsForKernel& operator=(const StandsForKernel&) = delete;
};

}  // namespace cimq::emulated_device
