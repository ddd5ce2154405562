// Memory of the emulated devices. It is this process's own, but its addresses can be touched only while a kernel of
// their device runs: code of the host that reads what a tensor of the device points to ends with a message, as would a
// kernel that is given memory of another device. Copies use a second view of the same memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cimq::emulated_device {

constexpr int kDevices = 2;

/// What fresh and freed bytes hold: a NaN in every float type, and another value than most that are computed.
constexpr unsigned char kFresh = 0xff;
constexpr unsigned char kFreed = 0xfe;

/// `bytes` bytes of kFresh at a multiple of 4096. Null for none. Throws std::bad_alloc.
void* allocate(int device, std::size_t bytes);

/// The bytes become kFreed and are not given out again for a while. Writes beyond a block's end, and writes after it
/// was freed, are found here and when it is given out again: see faults().
void release(void* data) noexcept;

/// The device that an address belongs to, -1 for memory of the host.
int device_of(const void* data);

/// The same byte where the host may touch it; an address of the host as it is.
void* host_view(const void* data);

/// While one lives, the addresses of one device can be touched.
class Access {
 public:
  explicit Access(int device);
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

 private:
  int device_;
};

struct Usage {
  std::int64_t blocks = 0;
  std::int64_t bytes = 0;  ///< as asked for
};

/// What is allocated on a device now.
Usage usage(int device);

/// Checks what was freed, and gives (and forgets) the faults found since the last call, empty for none.
std::string faults();

}  // namespace cimq::emulated_device
