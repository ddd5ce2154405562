// Dynamic shared memory of a block. Kernels reach it through SharedArray alone: on the device a plain pointer, in the
// emulation of the tests an access that is checked for bounds and races.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.h"

#if defined(CIMQ_CUDA_EMULATION)

#include "emulation/shared_array.h"

namespace cimq::kernels::cuda {
using emulation::shared_memory;
using emulation::SharedArray;
}  // namespace cimq::kernels::cuda

#else

namespace cimq::kernels::cuda {

/// `count` values of type T in shared memory. Trivially copied; passes to device functions by value.
template <typename T>
class SharedArray {
 public:
  __device__ __forceinline__ SharedArray(T* data, int count) : data_(data), count_(count) {}

  __device__ __forceinline__ T& operator[](int index) const { return data_[index]; }
  __device__ __forceinline__ T load(int index) const { return data_[index]; }
  __device__ __forceinline__ void store(int index, const T& value) const { data_[index] = value; }

  /// One access of sizeof(V) bytes that begins at value `index`, which must be a multiple of sizeof(V) / sizeof(T).
  template <typename V>
  __device__ __forceinline__ V load_as(int index) const {
    return *reinterpret_cast<const V*>(data_ + index);
  }
  template <typename V>
  __device__ __forceinline__ void store_as(int index, const V& value) const {
    *reinterpret_cast<V*>(data_ + index) = value;
  }

  __device__ __forceinline__ T atomic_add(int index, T value) const { return atomicAdd(data_ + index, value); }
  __device__ __forceinline__ T atomic_max(int index, T value) const { return atomicMax(data_ + index, value); }

  /// `count` values from value `first` on.
  __device__ __forceinline__ SharedArray part(int first, int count) const { return {data_ + first, count}; }

  /// Where value `index` lies, as instructions like ldmatrix and cp.async want it.
  __device__ __forceinline__ std::uint32_t address(int index) const {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(data_ + index));
  }

  __device__ __forceinline__ int size() const { return count_; }

 private:
  T* data_;
  int count_;
};

/// `count` values of type T that begin `offset` bytes into the block's dynamic shared memory; `offset` must be a
/// multiple of 16 where 16 bytes are accessed at once, else of sizeof(T).
template <typename T>
__device__ __forceinline__ SharedArray<T> shared_memory(std::size_t offset, int count) {
  extern __shared__ __align__(128) unsigned char block_bytes[];
  return {reinterpret_cast<T*>(block_bytes + offset), count};
}

}  // namespace cimq::kernels::cuda

#endif
