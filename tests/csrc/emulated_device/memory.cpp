#include "emulated_device/memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "common/error.h"

namespace cimq::emulated_device {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kArenaBytes = std::size_t{1} << 36;     // addresses; memory is taken as it is touched
constexpr std::size_t kWaitingBytes = std::size_t{16} << 20;  // freed blocks that are not given out yet
constexpr std::size_t kMargin = 64;                           // kFreed bytes behind every block, at least

struct Block {
  std::size_t bytes = 0;
  std::size_t pages = 0;
};

class Arena {
 public:
  void open(int device) {
    device_ = device;
    const int file = memfd_create("cimq_emulated_device", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(kArenaBytes)) != 0) throw std::bad_alloc();
    const auto map = [file](int protection) {
      void* at = mmap(nullptr, kArenaBytes, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
      if (at == MAP_FAILED) throw std::bad_alloc();
      return static_cast<unsigned char*>(at);
    };
    addresses_ = map(PROT_NONE);
    view_ = map(PROT_READ | PROT_WRITE);
    close(file);
  }

  bool holds(const void* data) const {
    const auto* at = static_cast<const unsigned char*>(data);
    return at >= addresses_ && at < addresses_ + kArenaBytes;
  }

  unsigned char* view(const void* data) const { return view_ + (static_cast<const unsigned char*>(data) - addresses_); }

  void* allocate(std::size_t bytes) {
    const Block block = {bytes, (bytes + kMargin + kPage - 1) / kPage};
    unsigned char* data = nullptr;
    auto& free = free_[block.pages];
    if (free.empty()) {
      if (block.pages > (kArenaBytes - used_) / kPage) throw std::bad_alloc();
      data = addresses_ + used_;
      // What lies before is open while a kernel runs; what is added must be, too.
      used_ += block.pages * kPage;
      if (open_ > 0) protect(PROT_READ | PROT_WRITE);
    } else {
      data = free.back();
      free.pop_back();
    }
    std::memset(view(data), kFresh, bytes);
    std::memset(view(data) + bytes, kFreed, block.pages * kPage - bytes);
    live_.emplace(data, block);
    usage_.blocks += 1;
    usage_.bytes += static_cast<std::int64_t>(bytes);
    return data;
  }

  void release(unsigned char* data, std::vector<std::string>& faults) {
    const auto found = live_.find(data);
    if (found == live_.end()) {
      faults.push_back(message("a block of ", name(), " is freed that is not allocated"));
      return;
    }
    const Block block = found->second;
    live_.erase(found);
    usage_.blocks -= 1;
    usage_.bytes -= static_cast<std::int64_t>(block.bytes);
    if (!untouched(data, block.bytes, block.pages * kPage)) {
      faults.push_back(message("something wrote beyond the end of a block of ", block.bytes, " bytes of ", name()));
    }
    std::memset(view(data), kFreed, block.pages * kPage);
    waiting_.emplace_back(data, block);
    waiting_bytes_ += block.pages * kPage;
    while (waiting_bytes_ > kWaitingBytes) give_back(faults);
  }

  void check_freed(std::vector<std::string>& faults) {
    for (const auto& [data, block] : waiting_) check_freed(data, block, faults);
  }

  void open_for_kernel() {
    if (open_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close_after_kernel() {
    if (--open_ == 0) protect(PROT_NONE);
  }

  const Usage& usage() const { return usage_; }

 private:
  std::string name() const { return message("emulated:", device_); }

  void protect(int protection) const {
    if (used_ > 0 && mprotect(addresses_, used_, protection) != 0) throw std::bad_alloc();
  }

  bool untouched(const unsigned char* data, std::size_t first, std::size_t end) const {
    const unsigned char* at = view(data);
    return std::all_of(at + first, at + end, [](unsigned char byte) { return byte == kFreed; });
  }

  void check_freed(unsigned char* data, const Block& block, std::vector<std::string>& faults) {
    if (untouched(data, 0, block.pages * kPage)) return;
    faults.push_back(message("something wrote to a block of ", block.bytes, " bytes of ", name(), " that was freed"));
    std::memset(view(data), kFreed, block.pages * kPage);
  }

  void give_back(std::vector<std::string>& faults) {
    const auto [data, block] = waiting_.front();
    waiting_.pop_front();
    waiting_bytes_ -= block.pages * kPage;
    check_freed(data, block, faults);
    madvise(view(data), block.pages * kPage, MADV_REMOVE);
    free_[block.pages].push_back(data);
  }

  int device_ = 0;
  unsigned char* addresses_ = nullptr;
  unsigned char* view_ = nullptr;
  std::size_t used_ = 0;
  int open_ = 0;
  std::unordered_map<unsigned char*, Block> live_;
  std::deque<std::pair<unsigned char*, Block>> waiting_;
  std::size_t waiting_bytes_ = 0;
  std::map<std::size_t, std::vector<unsigned char*>> free_;  // by pages
  Usage usage_;
};

struct Memory {
  std::mutex mutex;
  std::array<Arena, kDevices> arenas;
  std::vector<std::string> faults;
  pid_t process = getpid();

  Memory() {
    for (int device = 0; device < kDevices; ++device) arenas[static_cast<std::size_t>(device)].open(device);
  }
  Arena& of(int device) { return arenas[static_cast<std::size_t>(device)]; }
  /// A process that was forked shares the memory: like CUDA's, the device is of no use to it.
  bool is_ours() const { return getpid() == process; }
};

// For the handler of signals, which must not construct anything.
std::atomic<const Memory*> opened = nullptr;
std::atomic<int> running_device = -1;
struct sigaction handler_before = {};

void explain_and_end(int /*signal*/, siginfo_t* info, void* /*context*/) {
  const Memory* memory = opened.load();
  for (int device = 0; memory != nullptr && device < kDevices; ++device) {
    if (!memory->arenas[static_cast<std::size_t>(device)].holds(info->si_addr)) continue;
    // Neither the heap nor a stream may be needed here.
    std::array<char, 160> text = {};
    const int running = running_device.load();
    const int length =
        running < 0
            ? std::snprintf(text.data(), text.size(), "cimq: code of the host touched memory of emulated:%d\n", device)
            : std::snprintf(text.data(), text.size(), "cimq: a kernel on emulated:%d touched memory of emulated:%d\n",
                            running, device);
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), static_cast<std::size_t>(length));
  }
  // The instruction runs again, and ends the process by the handler that was here before, e.g. Python's faulthandler.
  sigaction(SIGSEGV, &handler_before, nullptr);
}

Memory& memory() {
  static Memory* only = [] {
    auto* made = new Memory;  // tensors may outlive static destructors
    opened.store(made);
    struct sigaction action = {};
    action.sa_sigaction = &explain_and_end;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &handler_before);
    return made;
  }();
  return *only;
}

}  // namespace

void* allocate(int device, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  Memory& all = memory();
  check(all.is_ours(), "emulated device: cannot be used in a process that was forked; start it with \"spawn\"");
  const std::lock_guard<std::mutex> lock(all.mutex);
  return all.of(device).allocate(bytes);
}

void release(void* data) noexcept {
  Memory& all = memory();
  if (data == nullptr || !all.is_ours()) return;
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.of(device_of(data)).release(static_cast<unsigned char*>(data), all.faults);
}

int device_of(const void* data) {
  for (int device = 0; device < kDevices; ++device) {
    if (memory().of(device).holds(data)) return device;
  }
  return -1;
}

void* host_view(const void* data) {
  const int device = device_of(data);
  return device < 0 ? const_cast<void*>(data) : memory().of(device).view(data);
}

Access::Access(int device) : device_(device) {
  const std::lock_guard<std::mutex> lock(memory().mutex);
  memory().of(device).open_for_kernel();
  running_device.store(device);
}

Access::~Access() {
  const std::lock_guard<std::mutex> lock(memory().mutex);
  memory().of(device_).close_after_kernel();
  running_device.store(-1);
}

Usage usage(int device) {
  const std::lock_guard<std::mutex> lock(memory().mutex);
  return memory().of(device).usage();
}

std::string faults() {
  Memory& all = memory();
  const std::lock_guard<std::mutex> lock(all.mutex);
  for (Arena& arena : all.arenas) arena.check_freed(all.faults);
  std::string text;
  for (const std::string& fault : all.faults) text += (text.empty() ? "" : "; ") + fault;
  all.faults.clear();
  return text;
}

}  // namespace cimq::emulated_device
