// Starts a kernel. The one way into the device: grid, block, dynamic shared memory and a stream, and the result
// checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch_error.h"
#include "kernels/cuda/stream.h"

#if defined(CIMQ_CUDA_EMULATION)
#include "emulation/run.h"
#endif

namespace cimq::kernels::cuda {

/// The grid of a launch.
struct Grid {
  dim3 blocks;
  dim3 threads;
  std::size_t shared_bytes = 0;  ///< dynamic shared memory of a block, at most kMaxSharedBytes
};

/// Blocks of `threads` in a row, as many as `work` threads need. More than 2^32 blocks must not wrap to fewer: the
/// launch refuses the largest number as well.
inline Grid grid_of(std::int64_t work, unsigned threads, std::size_t shared_bytes = 0) {
  constexpr std::int64_t kMost = 0xffffffff;
  const std::int64_t blocks = (work + threads - 1) / threads;
  return {static_cast<unsigned>(blocks < kMost ? blocks : kMost), threads, shared_bytes};
}

inline GridSize grid_size(const Grid& grid) {
  return {{grid.blocks.x, grid.blocks.y, grid.blocks.z},
          {grid.threads.x, grid.threads.y, grid.threads.z},
          grid.shared_bytes};
}

#if defined(CIMQ_CUDA_EMULATION)

/// The emulation runs the grid to its end before it returns.
template <typename... Parameters>
void launch(const Work& work, const Grid& grid, Stream stream, void (*kernel)(Parameters...),
            std::type_identity_t<Parameters>... arguments) {
  check_grid(work, grid_size(grid), "the emulation");
  try {
    emulation::launch(work.kernel, stream.handle, grid.blocks, grid.threads, grid.shared_bytes,
                      [&] { kernel(arguments...); });
  } catch (const emulation::LaunchRefused& refused) {
    throw LaunchError(work, "the emulation", refused.what());
  }
}

#else

/// cudaLaunchKernel with the checks around it; launch below is what kernels' hosts call.
void launch_checked(const Work& work, const Grid& grid, Stream stream, const void* kernel, void** arguments);

/// Starts `kernel` on `stream` of the current device. Does not wait: errors of the run itself come up where the caller
/// waits for the stream. Throws LaunchError.
template <typename... Parameters>
void launch(const Work& work, const Grid& grid, Stream stream, void (*kernel)(Parameters...),
            std::type_identity_t<Parameters>... arguments) {
  void* pointers[] = {static_cast<void*>(&arguments)..., nullptr};
  launch_checked(work, grid, stream, reinterpret_cast<const void*>(kernel), pointers);
}

#endif

}  // namespace cimq::kernels::cuda
