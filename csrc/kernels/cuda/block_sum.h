// Sums over the threads of a warp and of a block, in an order that depends on nothing but their number.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/shared_memory.h"

namespace cimq::kernels::cuda {

constexpr int kWarpThreads = 32;
constexpr unsigned kWholeWarp = 0xffffffffU;

/// The sum over a warp, in every lane.
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
  for (int delta = kWarpThreads / 2; delta > 0; delta /= 2) value += __shfl_xor_sync(kWholeWarp, value, delta);
  return value;
}

/// The sum over a block of whole warps, in thread 0 alone. `sums` has one value per warp; all threads call it, once.
__device__ __forceinline__ double block_sum(double value, const SharedArray<double>& sums) {
  const int thread = static_cast<int>(threadIdx.x);
  const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
  const double of_warp = warp_sum(value);
  if (thread % kWarpThreads == 0) sums[thread / kWarpThreads] = of_warp;
  __syncthreads();
  double total = 0.0;
  if (thread == 0) {
    for (int warp = 0; warp < warps; ++warp) total += sums[warp];
  }
  return total;
}

}  // namespace cimq::kernels::cuda
