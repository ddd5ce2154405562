// The crossbar product on int8 tensor cores: which kernel, and its launch. The kernel itself is mvm_block.h.
#include <limits>

#include "common/error.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mvm_block.h"

namespace cimq::kernels::cuda {
namespace {

// Two blocks per multiprocessor: one loads while the other multiplies.
template <bool kWords, Converter kConverter>
__global__ void __launch_bounds__(kBlockThreads, 2) crossbar_mvm_kernel(const MvmArguments arguments) {
  MvmBlock<kWords, kConverter>(arguments).run();
}

using MvmKernel = void (*)(MvmArguments);

MvmKernel kernel_of(const MvmLayer& layer) {
  switch (layer.converter()) {
    case Converter::kNone:
      return layer.words() ? crossbar_mvm_kernel<true, Converter::kNone> : crossbar_mvm_kernel<false, Converter::kNone>;
    case Converter::kShifted:
      return crossbar_mvm_kernel<false, Converter::kShifted>;
    case Converter::kGeneral:
      break;
  }
  return layer.words() ? crossbar_mvm_kernel<true, Converter::kGeneral>
                       : crossbar_mvm_kernel<false, Converter::kGeneral>;
}

}  // namespace

void crossbar_mvm(const MvmLayer& layer, const std::byte* image, const std::uint8_t* x, std::int64_t batch, void* y,
                  Stream stream) {
  check(batch >= 0, "crossbar_mvm: batch must be at least 0, got ", batch);
  if (batch == 0) return;
  const MvmArguments arguments = layer.arguments(image, x, batch, y);
  const std::int64_t blocks = ceil_div<std::int64_t>(batch, kBlockRows) * (arguments.lines / kBlockLines);
  const Work work = {
      "crossbar_mvm",
      "crossbar_mvm_kernel",
      {{{"batch", batch}, {"inputs", arguments.inputs}, {"outputs", arguments.outputs}, {"chips", layer.chips()}}}};
  check(blocks <= std::numeric_limits<std::int32_t>::max(),
        "crossbar_mvm: a CUDA device takes at most 2147483647 blocks ", "of 64 x 64 results, got ", blocks,
        "; split the batch");
  const Grid grid = {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(layer.chips())), dim3(kBlockThreads),
                     kSharedBytes};
  launch(work, grid, stream, kernel_of(layer), arguments);
}

}  // namespace cimq::kernels::cuda
