// Which kernel computes a layer's products, and its launch.
#pragma once

#include <limits>

#include "common/error.h"
#include "common/rounding.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mvm_block.h"
#include "kernels/cuda/mvm_results.h"

namespace cimq::kernels::cuda {

// Two blocks per multiprocessor: one loads while the other multiplies.
template <Cells kCells, Converter kConverter, typename Operands>
__global__ void __launch_bounds__(kBlockThreads, 2)
    crossbar_product(const MvmArguments arguments, const Operands operands) {
  MvmBlock<ProductEpilogue<kCells, kConverter>, Operands>(arguments, operands).run();
}

template <typename Operands>
auto product_of(const MvmLayer& layer) {
  if (layer.converter() == Converter::kShifted) return crossbar_product<Cells::kBytes, Converter::kShifted, Operands>;
  const bool converts = layer.converter() != Converter::kNone;
  return kernel_for(layer.cells(), [converts](auto cells) {
    return converts ? crossbar_product<cells(), Converter::kGeneral, Operands>
                    : crossbar_product<cells(), Converter::kNone, Operands>;
  });
}

/// `work`: operator and sizes for errors.
template <typename Operands>
void launch_product(Work work, const MvmLayer& layer, int chips, const MvmArguments& arguments,
                    const Operands& operands, Stream stream) {
  work.kernel = "crossbar_product";
  const std::int64_t blocks = ceil_div<std::int64_t>(arguments.rows, kBlockRows) * (arguments.lines / kBlockLines);
  check(blocks <= std::numeric_limits<std::int32_t>::max(), work.op,
        ": a CUDA device takes at most 2147483647 blocks of 64 x 64 results, got ", blocks, "; split the batch");
  const Grid grid = {
      dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(chips), static_cast<unsigned>(layer.groups())),
      dim3(kBlockThreads), static_cast<std::size_t>(kSharedBytes + read_key_bytes(layer.cells()))};
  launch(work, grid, stream, product_of<Operands>(layer), arguments, operands);
}

}  // namespace cimq::kernels::cuda
