#include "emulated_device/devices.h"

#include <c10/util/Exception.h>

#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <utility>

#include "emulation/run.h"

namespace cimq::emulated_device {
namespace {

constexpr std::int64_t kStreams = 8;  // of every device, the default one first

struct StreamRecord {
  int device = 0;
  std::int64_t id = 0;
};

std::array<std::array<StreamRecord, kStreams>, kDevices> make_streams() {
  std::array<std::array<StreamRecord, kStreams>, kDevices> made = {};
  for (int device = 0; device < kDevices; ++device) {
    for (std::int64_t id = 0; id < kStreams; ++id) {
      made[static_cast<std::size_t>(device)][static_cast<std::size_t>(id)] = {device, id};
    }
  }
  return made;
}

std::array<std::array<StreamRecord, kStreams>, kDevices> streams = make_streams();

thread_local int current = 0;
thread_local std::array<std::int64_t, kDevices> stream_of = {};
thread_local int standing_for_kernels = 0;

std::atomic<bool> capturing = false;
std::atomic<std::int64_t> waited = 0;

struct Launches {
  std::mutex running;  // the emulation runs one grid at a time
  std::mutex mutex;    // of what follows
  std::vector<Launch> seen;
  std::string fails;
  std::string failing_kernel;
};

Launches& all_launches() {
  static auto* only = new Launches;
  return *only;
}

c10::Stream stream(int index, std::int64_t id) { return c10::Stream(c10::Stream::UNSAFE, device(index), id); }

void refuse_faults() {
  const std::string found = faults();
  TORCH_CHECK(found.empty(), "emulated device: ", found);
}

/// What launch() of the kernels comes to.
void run_grid(const char* kernel, void* handle, const std::function<void()>& grid) {
  TORCH_CHECK(handle != nullptr, "kernel ", kernel, " was launched on no stream");
  const StreamRecord stream = *static_cast<const StreamRecord*>(handle);
  TORCH_CHECK(stream.device == current, "kernel ", kernel, " was launched on a stream of emulated:", stream.device,
              " while emulated:", current, " is current");
  refuse_faults();
  Launches& launches = all_launches();
  {
    const std::lock_guard<std::mutex> lock(launches.mutex);
    const bool fails = launches.failing_kernel.empty() || launches.failing_kernel == kernel;
    const std::string reason = fails ? std::exchange(launches.fails, "") : "";
    if (!reason.empty()) throw emulation::LaunchRefused(reason);
    launches.seen.push_back({kernel, stream.device, stream.id});
  }
  const std::lock_guard<std::mutex> lock(launches.running);
  const Access access(stream.device);
  grid();
}

[[maybe_unused]] const bool kLaunchesComeHere = [] {
  emulation::on_launch(&run_grid);
  return true;
}();

}  // namespace

int current_device() { return current; }

void set_current_device(int index) {
  TORCH_CHECK(index >= 0 && index < kDevices, "there are ", kDevices, " emulated devices, got index ", index);
  current = index;
}

int checked_index(c10::Device device) {
  TORCH_CHECK(device.type() == kType, "not an emulated device: ", device);
  const int index = device.has_index() ? device.index() : current;
  TORCH_CHECK(index < kDevices, "there are ", kDevices, " emulated devices, got ", device);
  return index;
}

c10::Stream current_stream(int index) { return stream(index, stream_of.at(static_cast<std::size_t>(index))); }

c10::Stream default_stream(int index) { return stream(index, 0); }

c10::Stream stream_from_pool(int index) {
  static std::atomic<std::int64_t> next = 0;
  return stream(index, 1 + next++ % (kStreams - 1));
}

c10::Stream exchange_stream(c10::Stream stream) {
  const int index = checked_index(stream.device());
  const c10::Stream before = current_stream(index);
  stream_of.at(static_cast<std::size_t>(index)) = stream.id();
  return before;
}

void* stream_handle(c10::Stream stream) {
  return &streams.at(static_cast<std::size_t>(checked_index(stream.device())))
              .at(static_cast<std::size_t>(stream.id()));
}

std::vector<Launch> launches() {
  const std::lock_guard<std::mutex> lock(all_launches().mutex);
  return all_launches().seen;
}

void forget_launches() {
  const std::lock_guard<std::mutex> lock(all_launches().mutex);
  all_launches().seen.clear();
}

void fail_next_launch(const std::string& reason, const std::string& kernel) {
  const std::lock_guard<std::mutex> lock(all_launches().mutex);
  all_launches().fails = reason;
  all_launches().failing_kernel = kernel;
}

void set_capturing(bool value) { capturing = value; }
bool is_capturing() { return capturing; }

void wait_for_device(const std::string& what) {
  if (standing_for_kernels > 0) return;
  TORCH_CHECK(!capturing, "emulated device: ", what, " waits for the device while a graph is captured");
  ++waited;
}

std::int64_t waits() { return waited; }

StandsForKernel::StandsForKernel() { ++standing_for_kernels; }
StandsForKernel::~StandsForKernel() { --standing_for_kernels; }

}  // namespace cimq::emulated_device
