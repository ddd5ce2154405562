// What a launch of a CUDA kernel is for, and the error when it fails. Plain C++: torch glue reads it without CUDA.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "common/error.h"

namespace cimq::kernels::cuda {

/// One size of the problem under its name, e.g. {"batch", 64}.
struct NamedSize {
  const char* name = nullptr;
  std::int64_t value = 0;
};

/// Operator, kernel and sizes that an error names. Unused sizes stay without a name.
struct Work {
  const char* op = "";
  const char* kernel = "";
  std::array<NamedSize, 6> sizes = {};
};

/// A launch that the CUDA runtime refused, or that no device could run.
class LaunchError : public Error {
 public:
  LaunchError(const Work& work, std::string architecture, const std::string& reason);

  const std::string& op() const { return op_; }
  const std::string& shape() const { return shape_; }  ///< e.g. "batch 64, inputs 256"
  const std::string& architecture() const { return architecture_; }

 private:
  LaunchError(std::string op, std::string shape, std::string architecture, const char* kernel,
              const std::string& reason);

  std::string op_;
  std::string shape_;
  std::string architecture_;
};

/// Blocks of a grid, threads of a block and bytes of dynamic shared memory, as plain numbers.
struct GridSize {
  std::array<std::uint64_t, 3> blocks;
  std::array<std::uint64_t, 3> threads;
  std::size_t shared_bytes = 0;
};

/// Most dynamic shared memory that a kernel may ask for: what every supported chip has (sm_86, sm_89 and sm_120).
constexpr std::size_t kMaxSharedBytes = 99 * 1024;

/// Throws LaunchError where no supported chip could run such a grid: empty, too large, blocks that are not whole warps,
/// more than kMaxSharedBytes.
void check_grid(const Work& work, const GridSize& size, const std::string& architecture);

}  // namespace cimq::kernels::cuda
