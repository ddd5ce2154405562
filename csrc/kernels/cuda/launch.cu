#include "kernels/cuda/launch.h"

namespace cimq::kernels::cuda {
namespace {

/// More than this a kernel gets only where it has been told so.
constexpr std::size_t kSharedBytesWithoutAsking = 48 * 1024;

std::string current_architecture() {
  int device = 0;
  cudaDeviceProp properties{};
  if (cudaGetDevice(&device) != cudaSuccess || cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    return "no CUDA device";
  }
  return message(properties.name, " (sm_", properties.major, properties.minor, ")");
}

void check_result(const Work& work, cudaError_t result) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // reported here: the next call of anyone must not report it again
  std::string reason = message(cudaGetErrorName(result), ": ", cudaGetErrorString(result));
  if (result == cudaErrorNoKernelImageForDevice || result == cudaErrorUnsupportedPtxVersion) {
    reason += message("; cimq was built for the architectures ", CIMQ_CUDA_ARCHITECTURES,
                      ": rebuild it with TORCH_CUDA_ARCH_LIST naming this one");
  }
  throw LaunchError(work, current_architecture(), reason);
}

}  // namespace

void launch_checked(const Work& work, const Grid& grid, Stream stream, const void* kernel, void** arguments) {
  // The limits are the same for every chip, so that its name is asked for only when a launch fails.
  check_grid(work, grid_size(grid), "every supported device");
  if (grid.shared_bytes > kSharedBytesWithoutAsking) {
    check_result(work, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(grid.shared_bytes)));
  }
  check_result(work, cudaLaunchKernel(kernel, grid.blocks, grid.threads, arguments, grid.shared_bytes,
                                      static_cast<cudaStream_t>(stream.handle)));
}

}  // namespace cimq::kernels::cuda
