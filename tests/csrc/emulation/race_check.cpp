#include "emulation/race_check.h"

#include <algorithm>
#include <bit>

namespace cimq::emulation {
namespace {

constexpr int kWarpSize = 32;
constexpr int kOrdered = -1;
constexpr int kSomeThread = -2;  // of several warps: not known which

std::uint32_t lane_bit(int lane) { return 1U << static_cast<unsigned>(lane); }

}  // namespace

void SharedMemory::start_block(std::size_t bytes, std::uint32_t epoch) {
  if (bytes != data_.size()) {
    data_.assign(bytes, std::byte{});
    bytes_.assign(bytes, Byte{});
  }
  first_epoch_ = epoch;
}

int SharedMemory::unordered_thread(const Record& record, const Moment& who) {
  if (record.epoch != who.epoch) return kOrdered;  // a barrier lies between
  if (record.warp == kSeveral) return kSomeThread;
  const int lane = who.thread % kWarpSize;
  if (record.warp != who.thread / kWarpSize) return record.warp * kWarpSize + std::countr_zero(record.lanes);
  for (std::uint32_t lanes = record.lanes & ~lane_bit(lane); lanes != 0; lanes &= lanes - 1) {
    const int other = std::countr_zero(lanes);
    if ((*who.clocks)[static_cast<std::size_t>(other)] < record.clock) return record.warp * kWarpSize + other;
  }
  return kOrdered;
}

void SharedMemory::add(Record& record, const Moment& who) {
  const int lane = who.thread % kWarpSize;
  const int warp = who.thread / kWarpSize;
  const std::uint32_t clock = (*who.clocks)[static_cast<std::size_t>(lane)];
  if (unordered_thread(record, who) == kOrdered) {
    // What comes behind this access comes behind the recorded ones.
    record = {who.epoch, clock, lane_bit(lane), warp};
  } else if (record.warp == warp) {
    record.lanes |= lane_bit(lane);
    record.clock = std::max(record.clock, clock);
  } else {
    record.warp = kSeveral;
  }
}

Conflict SharedMemory::note(const Moment& who, Access access, std::size_t address, std::size_t bytes) {
  if (address > size() || bytes > size() - address) return {"is outside the shared memory", -1, address};
  for (std::size_t at = address; at < address + bytes; ++at) {
    Byte& byte = bytes_[at];
    const bool written = byte.writes.epoch >= first_epoch_;
    const bool both_atomic = access == Access::kAtomic && byte.atomic;
    if (access != Access::kWrite && !written) return {"reads what nobody has written in this block", -1, at};
    if (written && !both_atomic) {
      const int other = unordered_thread(byte.writes, who);
      if (other != kOrdered)
        return {
            access == Access::kRead ? "reads what another has just written" : "writes what another has just written",
            other, at};
    }
    if (access != Access::kRead && byte.reads.epoch >= first_epoch_) {
      const int other = unordered_thread(byte.reads, who);
      if (other != kOrdered) return {"writes what another has just read", other, at};
    }
    if (access == Access::kRead) {
      add(byte.reads, who);
    } else if (both_atomic) {
      add(byte.writes, who);
    } else {
      byte.writes = {};  // ordered before this one
      add(byte.writes, who);
      byte.atomic = access == Access::kAtomic;
    }
  }
  return {};
}

}  // namespace cimq::emulation
