#include "emulation/block.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/error.h"
#include "emulation/device_variables.h"

namespace cimq::emulation {
namespace {

thread_local Block* running = nullptr;

std::string triple(const uint3& index) { return message("(", index.x, ", ", index.y, ", ", index.z, ")"); }

std::string describe(const Thread& thread) {
  const Wait& at = thread.waits;
  if (thread.returned) return "has returned";
  return at.mask == 0 ? message("is in ", at.what, " of line ", at.line)
                      : message("is in ", at.what, " with the mask 0x", std::hex, at.mask);
}

std::uint32_t lane_bit(int lane) { return 1U << static_cast<unsigned>(lane); }

}  // namespace

Block& running_block() {
  if (running == nullptr) throw Fault("a function of the device was called outside a kernel");
  return *running;
}

std::string Block::place() const { return message("kernel ", kernel_, ", block ", triple(index_), ": "); }

void Block::fault(const std::string& reason) { throw Fault(place() + reason); }

void Block::run(const char* kernel, uint3 index, dim3 blocks, dim3 threads, std::size_t shared_bytes, Order order,
                const std::function<void()>& body) {
  const int count = static_cast<int>(threads.x * threads.y * threads.z);
  kernel_ = kernel;
  index_ = index;
  body_ = &body;
  thrown_ = nullptr;
  arrived_ = 0;
  counted_ = 0;
  ++epoch_;
  shared_.start_block(shared_bytes, epoch_);
  threads_.resize(static_cast<std::size_t>(count));
  meetings_.clear();
  meetings_.resize(static_cast<std::size_t>((count + kWarpSize - 1) / kWarpSize));
  ready_.clear();
  for (int i = 0; i < count; ++i) {
    const auto linear = static_cast<unsigned>(i);
    Thread& thread = threads_[static_cast<std::size_t>(i)];
    thread = Thread{};
    thread.id = i;
    thread.index = {linear % threads.x, linear / threads.x % threads.y, linear / (threads.x * threads.y)};
    thread.clocks[static_cast<std::size_t>(i % kWarpSize)] = 1;
    ready_.push_back(i);
  }
  fibers_.start(count, [](void* self) { static_cast<Block*>(self)->run_thread(); }, this);

  Block* const outer = running;
  running = this;
  gridDim = blocks;
  blockDim = threads;
  blockIdx = index;
  std::vector<int> turn;
  while (!ready_.empty() && thrown_ == nullptr) {
    turn.swap(ready_);
    std::sort(turn.begin(), turn.end());
    if (order == Order::kDescending) std::reverse(turn.begin(), turn.end());
    for (const int id : turn) {
      running_ = id;
      threadIdx = threads_[static_cast<std::size_t>(id)].index;
      fibers_.resume(id);
      if (thrown_ != nullptr) break;
    }
    turn.clear();
  }
  running = outer;
  if (thrown_ != nullptr) std::rethrow_exception(thrown_);
  for (const Thread& thread : threads_) {
    if (!thread.returned) describe_stuck_threads();
  }
}

void Block::run_thread() {
  try {
    (*body_)();
  } catch (...) {
    thrown_ = std::current_exception();
  }
  current().returned = true;
}

void Block::wait(const Wait& at) {
  current().waits = at;
  fibers_.pause();
}

void Block::describe_stuck_threads() {
  // Threads that are in the same place are named together.
  std::string text = "threads wait for others that never come: ";
  std::size_t groups = 0;
  for (std::size_t first = 0; first < threads_.size(); ++groups) {
    const auto what = [&](std::size_t i) { return describe(threads_[i]); };
    std::size_t end = first + 1;
    while (end < threads_.size() && what(end) == what(first)) ++end;
    if (groups < 8) {
      text += groups == 0 ? "" : "; ";
      text += end - first == 1 ? message("thread ", first, " ", what(first))
                               : message("each of threads ", first, " to ", end - 1, " ", what(first));
    }
    first = end;
  }
  if (groups > 8) text += message("; and ", groups - 8, " groups more");
  fault(text);
}

void Block::barrier(std::source_location where) { barrier_count(false, where); }

int Block::barrier_count(bool value, std::source_location where) {
  if (arrived_ == 0) {
    barrier_line_ = where.line();
    first_at_barrier_ = running_;
    counted_ = 0;
  } else if (where.line() != barrier_line_) {
    fault(message("threads ", first_at_barrier_, " and ", running_, " are at different barriers, in lines ",
                  barrier_line_, " and ", where.line()));
  }
  counted_ += value ? 1 : 0;
  if (++arrived_ < static_cast<int>(threads_.size())) {
    wait({"__syncthreads", 0, where.line()});
    return last_count_;
  }
  arrived_ = 0;
  last_count_ = counted_;
  ++epoch_;
  for (Thread& thread : threads_) {
    if (thread.id == running_) continue;
    thread.waits = {};
    ready_.push_back(thread.id);
  }
  return last_count_;
}

Meeting& Block::meeting(int warp, std::uint32_t mask) {
  auto& known = meetings_[static_cast<std::size_t>(warp)];
  for (const auto& one : known) {
    if (one->mask == mask) return *one;
  }
  known.push_back(std::make_unique<Meeting>());
  known.back()->mask = mask;
  return *known.back();
}

const Block::LaneValues& Block::meet(std::uint32_t mask, const void* value, std::size_t bytes, const char* what) {
  const int warp = running_ / kWarpSize;
  const int lane = running_ % kWarpSize;
  if (bytes > Meeting::kMaxBytes) fault(message(what, ": a lane's value has ", bytes, " bytes"));
  if ((mask & lane_bit(lane)) == 0) {
    fault(message("thread ", running_, " calls ", what, " with the mask 0x", std::hex, mask, ", which leaves it out"));
  }
  Meeting& here = meeting(warp, mask);
  if (here.arrived == 0) {
    here.what = what;
    here.bytes = bytes;
  } else if (std::strcmp(here.what, what) != 0 || here.bytes != bytes) {
    fault(message("lanes of one mask meet in different functions: ", here.what, " of ", here.bytes, " bytes, and ",
                  what, " of ", bytes, " bytes by thread ", running_));
  }
  const unsigned phase = here.phase;
  if (bytes > 0) std::memcpy(here.values[phase][static_cast<std::size_t>(lane)].data(), value, bytes);
  here.arrived |= lane_bit(lane);
  if (here.arrived != mask) {
    wait({what, mask, 0});
    return here.values[phase];
  }
  here.arrived = 0;
  here.phase ^= 1U;
  for (std::uint32_t lanes = mask & ~lane_bit(lane); lanes != 0; lanes &= lanes - 1) {
    Thread& other = threads_[static_cast<std::size_t>(warp * kWarpSize + std::countr_zero(lanes))];
    other.waits = {};
    ready_.push_back(other.id);
  }
  return here.values[phase];
}

void Block::sync_warp(std::uint32_t mask) {
  // Whole views, as what a lane has seen of a third one at an earlier meeting holds for all of these too.
  const std::array<std::uint32_t, kWarpSize> mine = current().clocks;
  const LaneValues& brought = meet(mask, mine.data(), sizeof(mine), "__syncwarp");
  Thread& self = current();
  for (std::uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    std::array<std::uint32_t, kWarpSize> view = {};
    std::memcpy(view.data(), brought[static_cast<std::size_t>(std::countr_zero(lanes))].data(), sizeof(view));
    for (std::size_t lane = 0; lane < kWarpSize; ++lane) self.clocks[lane] = std::max(self.clocks[lane], view[lane]);
  }
  ++self.clocks[static_cast<std::size_t>(running_ % kWarpSize)];
}

void Block::note(Access access, std::size_t address, std::size_t bytes) {
  const Moment now = {running_, epoch_, &current().clocks};
  const Conflict conflict = shared_.note(now, access, address, bytes);
  if (conflict.kind == nullptr) return;
  const std::string other = conflict.other >= 0   ? message(" (thread ", conflict.other, ")")
                            : conflict.other < -1 ? " (several threads)"
                                                  : "";
  fault(message("thread ", running_, " ", conflict.kind, other, ", ", bytes, " bytes at ", address,
                " of shared memory with ", shared_.size(), " bytes, first at ", conflict.address));
}

void Block::read_shared(std::size_t address, std::size_t bytes, void* into) {
  note(Access::kRead, address, bytes);
  std::memcpy(into, shared_.data() + address, bytes);
}

void Block::write_shared(std::size_t address, std::size_t bytes, const void* from) {
  note(Access::kWrite, address, bytes);
  std::memcpy(shared_.data() + address, from, bytes);
}

void* Block::atomic_shared(std::size_t address, std::size_t bytes) {
  note(Access::kAtomic, address, bytes);
  return shared_.data() + address;
}

}  // namespace cimq::emulation
