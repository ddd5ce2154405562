// The shared memory of one block, with what is known of every byte: who read and wrote it since the last barrier.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cimq::emulation {

/// A thread at one moment, as far as the order of accesses goes.
struct Moment {
  int thread = 0;                                         ///< linear index in the block
  std::uint32_t epoch = 0;                                ///< barriers of the block so far
  const std::array<std::uint32_t, 32>* clocks = nullptr;  ///< how far it has seen each lane of its warp, itself too
};

enum class Access { kRead, kWrite, kAtomic };

/// What is wrong with an access.
struct Conflict {
  const char* kind = nullptr;  ///< null: nothing
  int other = -1;              ///< the other thread, or -1 where there is none or it is of no matter
  std::size_t address = 0;     ///< first byte that is wrong
};

/// Two accesses of a byte are ordered if a barrier of the block lies between them, or a __syncwarp of both threads.
/// Two that are not are a race if one of them writes; atomics do not race with each other. Bytes must have been written
/// in this block before they are read.
class SharedMemory {
 public:
  /// Empties the memory for the next block; `epoch` must be larger than all before.
  void start_block(std::size_t bytes, std::uint32_t epoch);

  Conflict note(const Moment& who, Access access, std::size_t address, std::size_t bytes);

  std::size_t size() const { return data_.size(); }
  std::byte* data() { return data_.data(); }

 private:
  /// Accesses of one kind since a barrier that nothing later has been ordered behind.
  struct Record {
    std::uint32_t epoch = 0;
    std::uint32_t clock = 0;  // the latest of its lanes'
    std::uint32_t lanes = 0;
    std::int32_t warp = 0;  // kSeveral: of more than one
  };
  struct Byte {
    Record writes;
    Record reads;
    bool atomic = false;  // what wrote
  };
  static constexpr std::int32_t kSeveral = -1;

  static int unordered_thread(const Record& record, const Moment& who);
  static void add(Record& record, const Moment& who);

  std::vector<std::byte> data_;
  std::vector<Byte> bytes_;
  std::uint32_t first_epoch_ = 0;
};

}  // namespace cimq::emulation
