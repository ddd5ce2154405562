#include "common/mapping.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/ir_drop.h"
#include "kernels/programmed_cells.h"

namespace cimq::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kCellsOfBlock = 4;  // words that Philox returns at once

/// Level of one slice for every int8 weight (by its bits), of each polarity.
struct WeightLevels {
  std::uint8_t of[2][256];
};

WeightLevels weight_levels(const MvmPlan& plan, int slice) {
  WeightLevels levels = {};
  const std::int32_t top = largest_weight(plan.weight_bits);
  for (std::int32_t value = -top; value <= top; ++value) {
    for (int polarity = 0; polarity < plan.polarities(); ++polarity) {
      levels.of[polarity][static_cast<std::uint8_t>(value)] =
          static_cast<std::uint8_t>(cell_level(plan, value, slice, polarity));
    }
  }
  return levels;
}

/// The cells of one slice. Their numbers go through it without a gap: weight j has cells 2j and 2j + 1 from
/// `first_cell` on.
struct SliceOfCells {
  const std::int8_t* weights;
  std::int64_t count;  ///< of weights
  int polarities;
  int slice;
  std::uint64_t first_cell;
  std::uint64_t seed;
  std::uint32_t chip;
  std::uint32_t layer;
  std::int16_t* first;  ///< of polarity 0; polarity 1 follows `count` later
};

__device__ __forceinline__ PhiloxCounter words_of(const SliceOfCells& cells, CellPurpose purpose, std::uint64_t block,
                                                  bool used) {
  if (!used) return {{kUnusedCellWord, kUnusedCellWord, kUnusedCellWord, kUnusedCellWord}};
  return cell_words(cells.seed, cells.chip, cells.layer, cells.slice, purpose, block);
}

/// A thread has one block of words: four cells, those of two weights where the first cell's number is a multiple of 4.
__global__ void __launch_bounds__(kThreads)
    sample_programmed_cells(SliceOfCells cells, CellTablesView tables, WeightLevels levels) {
  const std::uint64_t item = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::uint64_t block = cells.first_cell / kCellsOfBlock + item;
  const std::uint64_t end = cells.first_cell + 2 * static_cast<std::uint64_t>(cells.count);
  if (block * kCellsOfBlock >= end) return;
  const PhiloxCounter programming = words_of(cells, CellPurpose::kProgramming, block, tables.nodes != nullptr);
  const PhiloxCounter stuck = words_of(cells, CellPurpose::kStuck, block, tables.stuck_lrs > 0);
  const PhiloxCounter drift = words_of(cells, CellPurpose::kDrift, block, tables.drift != nullptr);
#pragma unroll
  for (int word = 0; word < kCellsOfBlock; ++word) {
    const std::uint64_t cell = block * kCellsOfBlock + static_cast<std::uint64_t>(word);
    const int polarity = word % 2;
    if (cell < cells.first_cell || cell >= end || polarity >= cells.polarities) continue;
    const auto weight = static_cast<std::int64_t>((cell - cells.first_cell) / 2);
    const std::int32_t level = levels.of[polarity][static_cast<std::uint8_t>(cells.weights[weight])];
    cells.first[polarity * cells.count + weight] = static_cast<std::int16_t>(
        cell_conductance(tables, level, programming.word[word], stuck.word[word], drift.word[word]));
  }
}

/// A thread has one weight; blockIdx.y: slice and polarity.
__global__ void __launch_bounds__(kThreads)
    level_cells(const std::int8_t* weights, std::int64_t count, Mapping mapping, int cell_bits, int weight_bits,
                std::int32_t base, std::int32_t* cells) {
  const std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= count) return;
  const int plane = static_cast<int>(blockIdx.y);
  const int of_slice = polarities(mapping);
  const std::int32_t level =
      cell_level(mapping, cell_bits, weight_bits, weights[index], plane / of_slice, plane % of_slice);
  cells[plane * count + index] = base + level * kConductanceUnit;
}

}  // namespace

void certain_cells(const MvmPlan& plan, std::int32_t base, const std::int8_t* w, std::int32_t* cells, Stream stream) {
  const std::int64_t count = plan.outputs * plan.inputs;
  if (count == 0) return;
  const Work work = {
      "programmed_cells", "level_cells", {{{"outputs", plan.outputs}, {"inputs", plan.inputs}, {"slices", plan.n_w}}}};
  Grid grid = grid_of(count, kThreads);
  grid.blocks.y = static_cast<unsigned>(plan.n_w * plan.polarities());
  launch(work, grid, stream, level_cells, w, count, plan.mapping, plan.cell_bits, plan.weight_bits, base, cells);
}

void programmed_cells(const Hardware& hardware, const CellTablesView& tables, const MvmPlan& plan, std::int64_t groups,
                      const MvmOptions& options, const std::int8_t* w, std::int16_t* cells, WorkMemory memory,
                      Stream stream) {
  const std::int64_t count = groups * plan.outputs * plan.inputs;
  if (count == 0) return;
  const std::uint64_t first_cell = cell_index(options.first_output, 0, plan.inputs, 0);
  const std::uint64_t last_cell = first_cell + 2 * static_cast<std::uint64_t>(count) - 1;
  const auto blocks = static_cast<std::int64_t>(last_cell / kCellsOfBlock - first_cell / kCellsOfBlock + 1);
  const Work work = {"programmed_cells",
                     "sample_programmed_cells",
                     {{{"outputs", groups * plan.outputs}, {"inputs", plan.inputs}, {"slices", plan.n_w}}}};
  for (int slice = 0; slice < plan.n_w; ++slice) {
    const SliceOfCells here = {w,
                               count,
                               plan.polarities(),
                               slice,
                               first_cell,
                               options.seed,
                               options.chip,
                               options.layer,
                               cells + slice * plan.polarities() * count};
    launch(work, grid_of(blocks, kThreads), stream, sample_programmed_cells, here, tables, weight_levels(plan, slice));
  }
  apply_ir_drop(IrDrop::of(hardware), plan, hardware, groups, cells, memory, stream);
}

}  // namespace cimq::kernels::cuda
