#include "ops/support/scratch.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/ScalarType.h>

#include <array>
#include <cstdlib>
#include <memory>

#include "common/rounding.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kAlignment = 64;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Not a tensor: those must not outlive what PyTorch tears down when a process ends.
struct Buffer {
  std::unique_ptr<void, Free> memory;
  std::int64_t bytes = 0;
};

}  // namespace

at::Tensor scratch_images(Scratch use, at::IntArrayRef sizes, at::ScalarType type) {
  thread_local std::array<Buffer, 2> buffers;
  Buffer& buffer = buffers.at(static_cast<std::size_t>(use));
  const std::int64_t channels = sizes[1];
  const std::int64_t width = sizes[3];
  const std::int64_t image = channels * sizes[2] * width;
  const std::int64_t bytes = sizes[0] * image * static_cast<std::int64_t>(c10::elementSize(type));
  const auto options = at::TensorOptions().dtype(type);
  if (bytes == 0 || bytes > kScratchBytes) return at::empty(sizes, options, at::MemoryFormat::ChannelsLast);
  if (bytes > buffer.bytes) {
    buffer = {};  // the old memory goes before the new one comes
    const std::int64_t rounded = ceil_div(bytes, kAlignment) * kAlignment;
    buffer.memory.reset(std::aligned_alloc(static_cast<std::size_t>(kAlignment), static_cast<std::size_t>(rounded)));
    if (buffer.memory == nullptr) return at::empty(sizes, options, at::MemoryFormat::ChannelsLast);
    buffer.bytes = rounded;
  }
  return at::from_blob(buffer.memory.get(), sizes, {image, 1, width * channels, channels}, options);
}

}  // namespace cimq::ops
