#include "kernels/cuda/launch_error.h"

#include <utility>

namespace cimq::kernels::cuda {
namespace {

constexpr std::uint64_t kWarpSize = 32;
constexpr std::uint64_t kMaxThreads = 1024;
constexpr std::array<std::uint64_t, 3> kMaxBlocks = {0x7fffffffU, 65535, 65535};
constexpr std::array<std::uint64_t, 3> kMaxThreadsOf = {1024, 1024, 64};

std::string shape_text(const Work& work) {
  std::string text;
  for (const NamedSize& size : work.sizes) {
    if (size.name == nullptr) continue;
    text += message(text.empty() ? "" : ", ", size.name, " ", size.value);
  }
  return text;
}

}  // namespace

LaunchError::LaunchError(const Work& work, std::string architecture, const std::string& reason)
    : LaunchError(work.op, shape_text(work), std::move(architecture), work.kernel, reason) {}

LaunchError::LaunchError(std::string op, std::string shape, std::string architecture, const char* kernel,
                         const std::string& reason)
    : Error(
          message(op, ": the CUDA kernel ", kernel, " for ", shape, " did not start on ", architecture, ": ", reason)),
      op_(std::move(op)),
      shape_(std::move(shape)),
      architecture_(std::move(architecture)) {}

void check_grid(const Work& work, const GridSize& size, const std::string& architecture) {
  std::uint64_t threads = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::uint64_t blocks = size.blocks[axis];
    if (blocks == 0 || blocks > kMaxBlocks[axis]) {
      throw LaunchError(
          work, architecture,
          message("axis ", axis, " of the grid must have 1 to ", kMaxBlocks[axis], " blocks, got ", blocks));
    }
    if (size.threads[axis] == 0 || size.threads[axis] > kMaxThreadsOf[axis]) {
      throw LaunchError(work, architecture,
                        message("axis ", axis, " of a block must have 1 to ", kMaxThreadsOf[axis], " threads, got ",
                                size.threads[axis]));
    }
    threads *= size.threads[axis];
  }
  if (threads > kMaxThreads || threads % kWarpSize != 0) {
    throw LaunchError(work, architecture,
                      message("a block must be whole warps of ", kWarpSize, " and have at most ", kMaxThreads,
                              " threads, got ", threads));
  }
  if (size.shared_bytes > kMaxSharedBytes) {
    throw LaunchError(
        work, architecture,
        message("a block may use at most ", kMaxSharedBytes, " bytes of shared memory, got ", size.shared_bytes));
  }
}

}  // namespace cimq::kernels::cuda
