// SharedArray of kernels/cuda/shared_memory.h, every access checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "common/error.h"
#include "emulation/block.h"
#include "emulation/scalar_functions.h"

namespace cimq::emulation {

/// What operator[] of a SharedArray gives: reads and writes go through the checks.
template <typename T>
class SharedReference {
 public:
  explicit SharedReference(std::size_t address) : address_(address) {}
  SharedReference(const SharedReference&) = default;

  operator T() const {
    T value;
    running_block().read_shared(address_, sizeof(T), &value);
    return value;
  }
  SharedReference& operator=(const T& value) {
    running_block().write_shared(address_, sizeof(T), &value);
    return *this;
  }
  SharedReference& operator=(const SharedReference& other) { return *this = static_cast<T>(other); }
  SharedReference& operator+=(const T& value) { return *this = static_cast<T>(static_cast<T>(*this) + value); }
  SharedReference& operator-=(const T& value) { return *this = static_cast<T>(static_cast<T>(*this) - value); }
  SharedReference& operator|=(const T& value) { return *this = static_cast<T>(static_cast<T>(*this) | value); }

 private:
  std::size_t address_;
};

template <typename T>
class SharedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  SharedArray(std::size_t address, int count) : address_(address), count_(count) {}

  SharedReference<T> operator[](int index) const { return SharedReference<T>(byte_address(index, sizeof(T))); }
  T load(int index) const { return (*this)[index]; }
  void store(int index, const T& value) const { (*this)[index] = value; }

  template <typename V>
  V load_as(int index) const {
    V value;
    running_block().read_shared(byte_address(index, sizeof(V)), sizeof(V), &value);
    return value;
  }
  template <typename V>
  void store_as(int index, const V& value) const {
    running_block().write_shared(byte_address(index, sizeof(V)), sizeof(V), &value);
  }

  T atomic_add(int index, T value) const { return atomicAdd(atomic(index), value); }
  T atomic_max(int index, T value) const { return atomicMax(atomic(index), value); }

  SharedArray part(int first, int count) const {
    if (first < 0 || count < 0 || first > count_ - count) {
      running_block().fault(message("part [", first, ", ", first, " + ", count, ") of ", count_, " values"));
    }
    return {address_ + static_cast<std::size_t>(first) * sizeof(T), count};
  }

  /// Byte address in the shared memory of the block; Block::read_shared and write_shared take it.
  std::uint32_t address(int index) const { return static_cast<std::uint32_t>(byte_address(index, sizeof(T))); }

  int size() const { return count_; }

 private:
  std::size_t byte_address(int index, std::size_t bytes) const {
    const auto values = static_cast<int>(bytes / sizeof(T));
    Block& block = running_block();
    if (index < 0 || index > count_ - values) {
      block.fault(message("thread ", block.current().id, " is outside the bounds of an array in shared memory: ",
                          values, " of ", count_, " values, from value ", index, " on"));
    }
    const std::size_t address = address_ + static_cast<std::size_t>(index) * sizeof(T);
    if (address % bytes != 0) {
      block.fault(message("thread ", block.current().id, " accesses ", bytes, " bytes at ", address,
                          " of shared memory: the address must be a multiple of the size"));
    }
    return address;
  }

  T* atomic(int index) const {
    return static_cast<T*>(running_block().atomic_shared(byte_address(index, sizeof(T)), sizeof(T)));
  }

  std::size_t address_;
  int count_;
};

template <typename T>
SharedArray<T> shared_memory(std::size_t offset, int count) {
  Block& block = running_block();
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  if (count < 0 || offset > block.shared_bytes() || bytes > block.shared_bytes() - offset) {
    block.fault(message(count, " values of ", sizeof(T), " bytes from byte ", offset,
                        " on are outside the shared memory of ", block.shared_bytes(), " bytes"));
  }
  return {offset, count};
}

}  // namespace cimq::emulation
