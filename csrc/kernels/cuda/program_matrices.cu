// Cells in the order in which the crossbar product reads them, and sums of weights, made on the device. The same bytes
// as MvmLayer makes on the host.
#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/cuda/launch.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// Variance of what a converter reads of one weight.
__device__ __forceinline__ std::int32_t variance_of(const PackArguments& pack, const MvmArguments& shape, int slice,
                                                    int column, std::int64_t output, int input) {
  if (pack.variance != 0) return pack.variance;
  const std::int64_t plane = std::int64_t{shape.groups} * shape.outputs * shape.inputs;
  const std::int16_t* cells =
      pack.conductances + std::int64_t{slice} * pack.polarities * plane + output * shape.inputs + input;
  const std::int32_t own = cell_variance(cells[column * plane], pack.read_shift);
  return pack.pair ? own + cell_variance(cells[plane], pack.read_shift) : own;
}

/// The cell of one weight as a converter sees it; `output` is counted through all groups.
__device__ __forceinline__ std::int32_t cell_of(const PackArguments& pack, const MvmArguments& shape, int slice,
                                                int column, std::int64_t output, int input) {
  const std::int64_t index = output * shape.inputs + input;
  if (pack.conductances == nullptr) {
    const std::int32_t w = pack.w[index];
    if (pack.digital) return w;
    const std::int32_t level = cell_level(pack.mapping, pack.cell_bits, pack.weight_bits, w, slice, column);
    return pack.pair ? level - cell_level(pack.mapping, pack.cell_bits, pack.weight_bits, w, slice, 1) : level;
  }
  const std::int64_t plane = std::int64_t{shape.groups} * shape.outputs * shape.inputs;
  const std::int16_t* cells = pack.conductances + std::int64_t{slice} * pack.polarities * plane + index;
  return cells[column * plane] - (pack.pair ? std::int32_t{cells[plane]} : pack.cancelled_base);
}

/// A thread makes four bytes of a line of a tile; blockIdx.y: plane, blockIdx.z: group. `words`: of a plane.
__global__ void __launch_bounds__(kThreads)
    pack_cells(const PackArguments pack, const MvmArguments shape, std::int64_t words, std::uint32_t* cells) {
  const std::int64_t word = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (word >= words) return;
  const int words_of_line = shape.tile_bytes / 4;
  const std::int64_t line_of_plane = word / words_of_line;
  const int offset = static_cast<int>(word % words_of_line) * 4;
  const int tile = static_cast<int>(line_of_plane / shape.lines);
  const int line = static_cast<int>(line_of_plane % shape.lines);
  const int of_warp = outputs_of_warp(pack.cells);
  const int output = line / kWarpLines * of_warp + line % of_warp;
  const int part = line % kWarpLines / of_warp;  // as Cells has them
  const int shift = pack.cells != Cells::kBytes && part % 2 == 0 ? 8 : 0;
  const int plane = static_cast<int>(blockIdx.y);
  const std::int64_t first_output = std::int64_t{blockIdx.z} * shape.outputs;
  std::uint32_t four = 0;
  for (int j = 0; j < 4; ++j) {
    const int in_tile = offset + j;
    const std::int64_t input = std::int64_t{tile} * shape.tile_inputs + in_tile;
    if (output >= shape.outputs || in_tile >= shape.tile_inputs || input >= shape.inputs) continue;
    const int slice = plane / shape.columns;
    const int column = plane % shape.columns;
    const std::int64_t of_all = first_output + output;
    const std::int32_t cell = part < 2 ? cell_of(pack, shape, slice, column, of_all, static_cast<int>(input))
                                       : variance_of(pack, shape, slice, column, of_all, static_cast<int>(input));
    four |= (static_cast<std::uint32_t>(cell) >> shift & 0xffU) << (8 * j);
  }
  cells[std::int64_t{blockIdx.z} * (shape.matrix_bytes / 4) + plane * words + word] = four;
}

/// A warp adds up the weights of an output.
__global__ void __launch_bounds__(kThreads)
    sum_weights(const std::int8_t* w, std::int64_t outputs, int inputs, std::int32_t* sums) {
  const std::int64_t output = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (output >= outputs) return;
  int sum = 0;
  for (int k = static_cast<int>(threadIdx.x % 32); k < inputs; k += 32) sum += w[output * inputs + k];
  sum = __reduce_add_sync(0xffffffffU, sum);
  if (threadIdx.x % 32 == 0) sums[output] = sum;
}

}  // namespace

void program_matrices(const MvmLayer& layer, int chip, const std::int8_t* w, const std::int16_t* conductances,
                      std::byte* programmed, Stream stream) {
  check(chip >= 0, "program_matrices: chip must be at least 0, got ", chip);
  check((conductances != nullptr) == layer.plan().fractional,
        "program_matrices: conductances belong to fractional cells, and to nothing else");
  const MvmArguments& shape = layer.shape();
  Work work = {
      "crossbar_mvm", "pack_cells", {{{"groups", shape.groups}, {"outputs", shape.outputs}, {"inputs", shape.inputs}}}};
  const std::int64_t words = std::int64_t{shape.tiles} * shape.lines * shape.tile_bytes / 4;
  const Grid grid = {dim3(static_cast<unsigned>(ceil_div<std::int64_t>(words, kThreads)),
                          static_cast<unsigned>(shape.slices * shape.columns), static_cast<unsigned>(shape.groups)),
                     dim3(kThreads)};
  std::byte* cells = programmed + layer.cells_begin() + static_cast<std::size_t>(chip) * layer.chip_bytes();
  launch(work, grid, stream, pack_cells, layer.packing(w, conductances), shape, words,
         reinterpret_cast<std::uint32_t*>(cells));
  if (chip > 0) return;  // the same weights
  work.kernel = "sum_weights";
  const std::int64_t outputs = std::int64_t{shape.groups} * shape.outputs;
  launch(work, grid_of(outputs * 32, kThreads), stream, sum_weights, w, outputs, shape.inputs,
         reinterpret_cast<std::int32_t*>(programmed));
}

}  // namespace cimq::kernels::cuda
