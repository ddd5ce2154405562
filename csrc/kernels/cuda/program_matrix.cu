// Cells in the order in which the crossbar product reads them, and sums of weights, made on the device. The same bytes
// as MvmLayer makes on the host.
#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/cuda/launch.h"

namespace cimq::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// The cell of one weight as a converter sees it.
__device__ __forceinline__ std::int32_t cell_of(const PackArguments& pack, const MvmArguments& shape, int slice,
                                                int column, int output, int input) {
  const std::int64_t index = std::int64_t{output} * shape.inputs + input;
  if (pack.conductances == nullptr) {
    const std::int32_t w = pack.w[index];
    if (pack.digital) return w;
    const std::int32_t level = cell_level(pack.mapping, pack.cell_bits, pack.weight_bits, w, slice, column);
    return pack.pair ? level - cell_level(pack.mapping, pack.cell_bits, pack.weight_bits, w, slice, 1) : level;
  }
  const std::int64_t plane = std::int64_t{shape.outputs} * shape.inputs;
  const std::int16_t* cells = pack.conductances + std::int64_t{slice} * pack.polarities * plane + index;
  return cells[column * plane] - (pack.pair ? std::int32_t{cells[plane]} : pack.cancelled_base);
}

/// A thread makes four bytes of a line of a tile; blockIdx.y: plane.
__global__ void __launch_bounds__(kThreads)
    pack_cells(const PackArguments pack, const MvmArguments shape, std::int64_t words, std::uint32_t* cells) {
  const std::int64_t word = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (word >= words) return;
  const int words_of_line = shape.tile_bytes / 4;
  const std::int64_t line_of_plane = word / words_of_line;
  const int offset = static_cast<int>(word % words_of_line) * 4;
  const int tile = static_cast<int>(line_of_plane / shape.lines);
  const int line = static_cast<int>(line_of_plane % shape.lines);
  constexpr int kHalf = kWarpLines / 2;
  // Words: the high bytes of a warp's outputs, then their low bytes.
  const int output = pack.words ? line / kWarpLines * kHalf + line % kHalf : line;
  const int shift = pack.words && line % kWarpLines < kHalf ? 8 : 0;
  const int plane = static_cast<int>(blockIdx.y);
  std::uint32_t four = 0;
  for (int j = 0; j < 4; ++j) {
    const int in_tile = offset + j;
    const std::int64_t input = std::int64_t{tile} * shape.tile_inputs + in_tile;
    if (output >= shape.outputs || in_tile >= shape.tile_inputs || input >= shape.inputs) continue;
    const std::int32_t cell =
        cell_of(pack, shape, plane / shape.columns, plane % shape.columns, output, static_cast<int>(input));
    four |= (static_cast<std::uint32_t>(cell) >> shift & 0xffU) << (8 * j);
  }
  cells[plane * words + word] = four;
}

/// A warp adds up the weights of an output.
__global__ void __launch_bounds__(kThreads)
    sum_weights(const std::int8_t* w, int outputs, int inputs, std::int32_t* sums) {
  const int output = static_cast<int>((std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32);
  if (output >= outputs) return;
  int sum = 0;
  for (int k = static_cast<int>(threadIdx.x % 32); k < inputs; k += 32) sum += w[std::int64_t{output} * inputs + k];
  sum = __reduce_add_sync(0xffffffffU, sum);
  if (threadIdx.x % 32 == 0) sums[output] = sum;
}

}  // namespace

void program_matrix(const MvmLayer& layer, int chip, int group, const std::int8_t* w, const std::int16_t* conductances,
                    std::byte* image, Stream stream) {
  check(chip >= 0 && chip < layer.chips(), "program_matrix: chip must lie in 0..", layer.chips() - 1, ", got ", chip);
  check(group >= 0 && group < layer.groups(), "program_matrix: group must lie in 0..", layer.groups() - 1, ", got ",
        group);
  check((conductances != nullptr) == layer.plan().fractional,
        "program_matrix: conductances belong to fractional cells, and to nothing else");
  const MvmArguments shape = layer.arguments(image, 0, nullptr);
  Work work = {"crossbar_mvm", "pack_cells", {{{"outputs", shape.outputs}, {"inputs", shape.inputs}}}};
  const std::int64_t matrix = std::int64_t{chip} * layer.groups() + group;
  const std::int64_t words = std::int64_t{shape.tiles} * shape.lines * shape.tile_bytes / 4;
  const Grid grid = {dim3(static_cast<unsigned>(ceil_div<std::int64_t>(words, kThreads)),
                          static_cast<unsigned>(shape.slices * shape.columns)),
                     dim3(kThreads)};
  launch(work, grid, stream, pack_cells, layer.packing(w, conductances), shape, words,
         reinterpret_cast<std::uint32_t*>(image + matrix * shape.matrix_bytes));
  if (chip > 0) return;  // the same weights
  work.kernel = "sum_weights";
  const std::int64_t sums = shape.weight_sums - reinterpret_cast<const std::int32_t*>(image);
  const Grid warps = {static_cast<unsigned>(ceil_div<std::int64_t>(std::int64_t{shape.outputs} * 32, kThreads)),
                      kThreads};
  launch(work, warps, stream, sum_weights, w, shape.outputs, shape.inputs,
         reinterpret_cast<std::int32_t*>(image) + sums + std::int64_t{group} * shape.outputs);
}

}  // namespace cimq::kernels::cuda
