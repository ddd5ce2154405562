// torch.ops.cimq_emulated: what tests ask of the emulated devices.
#include <ATen/core/Generator.h>
#include <torch/library.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "emulated_device/devices.h"
#include "emulated_device/generator.h"
#include "ops/support/caches.h"

namespace cimq::emulated_device {
namespace {

std::vector<std::string> launched() {
  std::vector<std::string> names;
  for (const Launch& launch : launches()) names.push_back(launch.kernel);
  return names;
}

std::vector<std::int64_t> launch_devices() {
  std::vector<std::int64_t> devices;
  for (const Launch& launch : launches()) devices.push_back(launch.device);
  return devices;
}

std::vector<std::int64_t> launch_streams() {
  std::vector<std::int64_t> streams;
  for (const Launch& launch : launches()) streams.push_back(launch.stream);
  return streams;
}

int checked(std::int64_t index) { return checked_index(device(static_cast<int>(index))); }

std::tuple<std::int64_t, std::int64_t> blocks_and_bytes(std::int64_t index) {
  const Usage used = usage(checked(index));
  return {used.blocks, used.bytes};
}

at::Generator generator(std::int64_t index) { return default_generator(checked(index)); }

void seed(std::int64_t index, std::int64_t seed) {
  generator(index).set_current_seed(static_cast<std::uint64_t>(seed));
}
at::Tensor random_state(std::int64_t index) { return generator(index).get_state(); }
void set_random_state(std::int64_t index, const at::Tensor& state) { generator(index).set_state(state); }

/// What a kernel does that writes where it may not.
void write_byte(std::int64_t address) { *static_cast<unsigned char*>(host_view(reinterpret_cast<void*>(address))) = 0; }

/// What a kernel on a device reads.
std::int64_t read_byte(std::int64_t address, std::int64_t index) {
  const Access access(checked(index));
  return *reinterpret_cast<const volatile unsigned char*>(address);
}

void check_memory() {
  const std::string found = faults();
  TORCH_CHECK(found.empty(), "emulated device: ", found);
}

}  // namespace
}  // namespace cimq::emulated_device

TORCH_LIBRARY(cimq_emulated, m) {
  namespace emulated = cimq::emulated_device;
  m.def("device_count() -> int", [] { return std::int64_t{emulated::kDevices}; });
  m.def("current_device() -> int", [] { return std::int64_t{emulated::current_device()}; });
  m.def("set_device(int index) -> ()",
        [](std::int64_t index) { emulated::set_current_device(emulated::checked(index)); });
  m.def("synchronize() -> ()", [] { emulated::wait_for_device("synchronize()"); });
  m.def("launches() -> int", [] { return static_cast<std::int64_t>(emulated::launches().size()); });
  m.def("launched() -> str[]", &emulated::launched);
  m.def("launch_devices() -> int[]", &emulated::launch_devices);
  m.def("launch_streams() -> int[]", &emulated::launch_streams);
  m.def("forget_launches() -> ()", &emulated::forget_launches);
  m.def("fail_next_launch(str reason, str kernel=\"\") -> ()", &emulated::fail_next_launch);
  m.def("set_capturing(bool capturing) -> ()", &emulated::set_capturing);
  m.def("waits() -> int", &emulated::waits);
  m.def("blocks_and_bytes(int index) -> (int, int)", &emulated::blocks_and_bytes);
  m.def("write_byte(int address) -> ()", &emulated::write_byte);
  m.def("read_byte(int address, int index) -> int", &emulated::read_byte);
  m.def("check_memory() -> ()", &emulated::check_memory);
  m.def("seed(int index, int seed) -> ()", &emulated::seed);
  m.def("random_state(int index) -> Tensor", &emulated::random_state);
  m.def("set_random_state(int index, Tensor state) -> ()", &emulated::set_random_state);
  // The glue's own copy of what operators remember.
  m.def("clear_caches() -> ()", &cimq::ops::clear_caches);
}
