// One block of an emulated grid: its threads are fibers that run one after the other, each until it has to wait. What
// the device leaves undefined and this can see is a Fault: threads that do not arrive at a barrier, races and accesses
// outside the bounds of shared memory, warp functions whose lanes do not agree.
#pragma once

#include <any>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulation/fibers.h"
#include "emulation/race_check.h"
#include "emulation/vector_types.h"

namespace cimq::emulation {

constexpr int kWarpSize = 32;

/// A fault of the kernel. The message names kernel, block, threads and, for shared memory, the address.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// In which order blocks, and threads between two barriers, run. A right kernel gives the same in any.
enum class Order { kAscending, kDescending };

/// Where the lanes of a mask wait for each other.
struct Meeting {
  static constexpr std::size_t kMaxBytes = 128;
  std::uint32_t mask = 0;
  std::uint32_t arrived = 0;
  unsigned phase = 0;  // of the values: those of one meeting are read while those of the next come in
  const char* what = nullptr;
  std::size_t bytes = 0;
  alignas(16) std::array<std::array<std::array<std::byte, kMaxBytes>, kWarpSize>, 2> values;
};

/// Where a thread waits. Without memory of its own, as the fibers of a kernel that failed are dropped as they are.
struct Wait {
  const char* what = nullptr;  ///< null: nowhere
  std::uint32_t mask = 0;      ///< of a warp function, else 0
  unsigned line = 0;           ///< of a barrier
};

struct Thread {
  int id = 0;  ///< linear index in the block; its warp is id / 32
  uint3 index = {};
  bool returned = false;
  Wait waits;
  std::array<std::uint32_t, kWarpSize> clocks = {};  ///< see Moment
  std::any own;                                      ///< for what else is emulated per thread, e.g. copies under way
};

class Block {
 public:
  using LaneValues = std::array<std::array<std::byte, Meeting::kMaxBytes>, kWarpSize>;

  /// Runs `body` as every thread of block `index`. Throws Fault, or what the body throws.
  void run(const char* kernel, uint3 index, dim3 blocks, dim3 threads, std::size_t shared_bytes, Order order,
           const std::function<void()>& body);

  // ---- called by the threads ----
  Thread& current() { return threads_[static_cast<std::size_t>(running_)]; }

  /// __syncthreads; `where` is the line of the call, which must be the same for all.
  void barrier(std::source_location where);

  /// Number of threads that gave true at a barrier.
  int barrier_count(bool value, std::source_location where);

  /// All lanes of `mask` call it with values of the same size and name; each gets the values of all. They stay until
  /// the lane's next meeting with the same mask.
  const LaneValues& meet(std::uint32_t mask, const void* value, std::size_t bytes, const char* what);

  /// __syncwarp: a meeting that also orders the lanes' accesses to memory.
  void sync_warp(std::uint32_t mask);

  /// Checked accesses of the shared memory, by its byte address.
  void read_shared(std::size_t address, std::size_t bytes, void* into);
  void write_shared(std::size_t address, std::size_t bytes, const void* from);
  /// What lies there, for an atomic operation that then writes it.
  void* atomic_shared(std::size_t address, std::size_t bytes);

  std::size_t shared_bytes() const { return shared_.size(); }

  [[noreturn]] void fault(const std::string& reason);

 private:
  void run_thread();
  void wait(const Wait& at);
  void note(Access access, std::size_t address, std::size_t bytes);
  void describe_stuck_threads();
  Meeting& meeting(int warp, std::uint32_t mask);
  std::string place() const;

  Fibers fibers_;
  std::vector<Thread> threads_;
  std::vector<std::vector<std::unique_ptr<Meeting>>> meetings_;  // of each warp
  std::vector<int> ready_;
  SharedMemory shared_;
  const std::function<void()>* body_ = nullptr;
  std::exception_ptr thrown_;
  const char* kernel_ = "";
  uint3 index_ = {};
  int running_ = 0;
  int arrived_ = 0;
  int counted_ = 0;
  int last_count_ = 0;
  int first_at_barrier_ = 0;
  unsigned barrier_line_ = 0;
  std::uint32_t epoch_ = 0;
};

/// The block whose thread is running; calls of device functions come here.
Block& running_block();

}  // namespace cimq::emulation
