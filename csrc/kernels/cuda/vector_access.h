// Sixteen bytes of memory at once, and how a run of values is shared out: vectors where all pointers are aligned alike,
// single values before and behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/host_device.h"
#include "kernels/cuda/device.h"

#if defined(CIMQ_CUDA_EMULATION)
#include "common/error.h"
#endif

namespace cimq::kernels::cuda {

constexpr std::size_t kVectorBytes = 16;

/// The values of sixteen bytes.
template <typename T>
struct Vector16 {
  static constexpr int kLanes = static_cast<int>(kVectorBytes / sizeof(T));
  T lane[kLanes];
};

#if defined(CIMQ_CUDA_EMULATION)

inline void check_aligned(const void* address) {
  if (reinterpret_cast<std::uintptr_t>(address) % kVectorBytes != 0) {
    emulation::running_block().fault(message("16 bytes at the address ", address, ", which is no multiple of 16"));
  }
}

template <typename T>
Vector16<T> load16(const T* source) {
  check_aligned(source);
  Vector16<T> value;
  std::memcpy(&value, source, kVectorBytes);
  return value;
}

template <typename T>
void store16(T* target, const Vector16<T>& value) {
  check_aligned(target);
  std::memcpy(target, &value, kVectorBytes);
}

#else

template <typename T>
__device__ __forceinline__ Vector16<T> load16(const T* source) {
  const uint4 bits = *reinterpret_cast<const uint4*>(source);
  Vector16<T> value;
  memcpy(&value, &bits, kVectorBytes);
  return value;
}

template <typename T>
__device__ __forceinline__ void store16(T* target, const Vector16<T>& value) {
  uint4 bits;
  memcpy(&bits, &value, kVectorBytes);
  *reinterpret_cast<uint4*>(target) = bits;
}

#endif

/// A run of values cut into single ones up to the first aligned address, vectors, and single ones behind them.
struct VectorRun {
  std::int64_t head = 0;
  std::int64_t vectors = 0;
  std::int64_t tail = 0;
  int lanes = 1;  ///< of a vector

  /// How many threads have something to do: one per vector and one per single value.
  CIMQ_HOST_DEVICE std::int64_t items() const { return head + vectors + tail; }

  /// Index of the single value of an item behind the vectors.
  CIMQ_HOST_DEVICE std::int64_t single(std::int64_t item) const {
    const std::int64_t which = item - vectors;
    return which < head ? which : which + vectors * lanes;
  }
};

/// The run of `count` values at `first` and at the same index of `others`, which are of the same size or null; no
/// vectors where their addresses are not equally far from a multiple of sixteen.
template <typename T, typename... Others>
VectorRun vector_run(std::int64_t count, const T* first, const Others*... others) {
  constexpr auto kLanes = static_cast<std::int64_t>(Vector16<T>::kLanes);
  const auto bytes_over = [](const void* address) {
    return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(address) % kVectorBytes);
  };
  const std::int64_t over = bytes_over(first);
  const bool alike = ((others == nullptr || bytes_over(others) == over) && ...);
  if (!alike || over % static_cast<std::int64_t>(sizeof(T)) != 0) return {count, 0, 0, 1};
  const std::int64_t to_aligned = (kLanes - over / static_cast<std::int64_t>(sizeof(T))) % kLanes;
  const std::int64_t head = to_aligned < count ? to_aligned : count;
  const std::int64_t vectors = (count - head) / kLanes;
  return {head, vectors, count - head - vectors * kLanes, Vector16<T>::kLanes};
}

}  // namespace cimq::kernels::cuda
