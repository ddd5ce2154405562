// Several values of memory at once, and how a run of values is shared out: vectors where all pointers are aligned
// alike, single values before and behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/host_device.h"
#include "kernels/cuda/device.h"

#if defined(CIMQ_CUDA_EMULATION)
#include "common/error.h"
#endif

namespace cimq::kernels::cuda {

/// What one instruction loads at most.
constexpr int kVectorBytes = 16;

/// How many T fill sixteen bytes.
template <typename T>
inline constexpr int kLanesOf = kVectorBytes / static_cast<int>(sizeof(T));

/// kLanes values that are loaded and stored by one instruction: 4, 8 or 16 bytes.
template <typename T, int kLanes = kLanesOf<T>>
struct Vector {
  static constexpr int kBytes = kLanes * static_cast<int>(sizeof(T));
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  T lane[kLanes];
};

#if defined(CIMQ_CUDA_EMULATION)

template <typename V>
void check_aligned(const void* address) {
  if (reinterpret_cast<std::uintptr_t>(address) % V::kBytes != 0) {
    emulation::running_block().fault(
        message(V::kBytes, " bytes at the address ", address, ", which is no multiple of that"));
  }
}

template <typename T, int kLanes = kLanesOf<T>>
Vector<T, kLanes> load_vector(const T* source) {
  check_aligned<Vector<T, kLanes>>(source);
  Vector<T, kLanes> value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

template <typename T, int kLanes>
void store_vector(T* target, const Vector<T, kLanes>& value) {
  check_aligned<Vector<T, kLanes>>(target);
  std::memcpy(target, &value, sizeof(value));
}

#else

/// The built-in type of as many bytes, by which the compiler makes one instruction of an access.
template <int kBytes>
using Word = std::conditional_t<kBytes == 16, uint4, std::conditional_t<kBytes == 8, uint2, unsigned>>;

template <typename T, int kLanes = kLanesOf<T>>
__device__ __forceinline__ Vector<T, kLanes> load_vector(const T* source) {
  const auto bits = *reinterpret_cast<const Word<Vector<T, kLanes>::kBytes>*>(source);
  Vector<T, kLanes> value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

template <typename T, int kLanes>
__device__ __forceinline__ void store_vector(T* target, const Vector<T, kLanes>& value) {
  Word<Vector<T, kLanes>::kBytes> bits;
  memcpy(&bits, &value, sizeof(value));
  *reinterpret_cast<Word<Vector<T, kLanes>::kBytes>*>(target) = bits;
}

#endif

/// A run of values cut into single ones up to the first aligned address, vectors, and single ones behind them. One item
/// is a vector or a single value, which one thread works on.
struct VectorRun {
  std::int64_t head = 0;
  std::int64_t vectors = 0;
  std::int64_t tail = 0;
  int lanes = 1;  ///< values of a vector

  CIMQ_HOST_DEVICE std::int64_t items() const { return head + vectors + tail; }
  CIMQ_HOST_DEVICE bool is_vector(std::int64_t item) const { return item < vectors; }

  /// Index of the first or only value of an item. Vectors come first.
  CIMQ_HOST_DEVICE std::int64_t begin(std::int64_t item) const {
    if (item < vectors) return head + item * lanes;
    const std::int64_t single = item - vectors;
    return single < head ? single : single + vectors * lanes;
  }
};

/// The run of `count` values at `first` and at the same index of `others`, which may be null. Sixteen bytes of `first`
/// make a vector; there are none where pointers are misaligned by different numbers of values.
template <typename T, typename... Others>
CIMQ_HOST_DEVICE VectorRun vector_run(std::int64_t count, const T* first, const Others*... others) {
  constexpr std::int64_t kLanes = kLanesOf<T>;
  const auto over = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(first) % kVectorBytes);
  const std::int64_t to_aligned = (kLanes - over / static_cast<std::int64_t>(sizeof(T))) % kLanes;
  const bool alike = ((others == nullptr || reinterpret_cast<std::uintptr_t>(others + to_aligned) %
                                                    static_cast<std::uintptr_t>(kLanes * sizeof(Others)) ==
                                                0) &&
                      ...);
  if (!alike) return {count, 0, 0, 1};
  const std::int64_t head = to_aligned < count ? to_aligned : count;
  const std::int64_t vectors = (count - head) / kLanes;
  return {head, vectors, count - head - vectors * kLanes, static_cast<int>(kLanes)};
}

}  // namespace cimq::kernels::cuda
