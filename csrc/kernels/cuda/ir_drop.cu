// Voltage lost along wires, on cells that lie on the device. Sums of integers, which are exact in any order, so that
// lines are added up in pieces. What a word line loses waits in memory for the bit lines, which need the cells as they
// were.
#include <algorithm>

#include "common/error.h"
#include "common/mapping.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/noise/ir_drop.h"

namespace cimq::kernels::cuda {
namespace {

constexpr int kLanes = 32;
constexpr unsigned kWholeWarp = 0xffffffffU;
constexpr int kParts = 8;  // of a word line: a warp each
constexpr unsigned kThreads = kLanes * kParts;

/// The cells of a layer, and which arrays a launch works on: `arrays` that stand side by side from `first_array` on,
/// counted through all groups. Arrays below one another belong together.
struct WiredCells {
  IrDrop drop;
  std::int16_t* cells;      ///< [slices][polarities][all_outputs][inputs]
  std::int64_t* word_sums;  ///< [arrays][array_columns][of_row][inputs]: W
  std::int64_t inputs;
  std::int64_t outputs;  ///< of a group
  std::int64_t all_outputs;
  std::int64_t columns;        ///< of a group
  std::int64_t array_columns;  ///< of the widest array
  std::int64_t array_inputs;
  std::int64_t arrays_across;  ///< of a group
  std::int64_t first_array;
  std::int64_t arrays;
  int slices;
  int of_column;
  int of_row;
};

/// The columns of an array.
struct ArrayColumns {
  std::int64_t first_output;  ///< of the group, counted through all groups
  std::int64_t begin;         ///< counted in the group
  std::int64_t count;
};

__device__ __forceinline__ ArrayColumns columns_of(const WiredCells& wired, std::int64_t array) {
  const std::int64_t across = wired.first_array + array;
  const std::int64_t group = across / wired.arrays_across;
  const std::int64_t begin = (across - group * wired.arrays_across) * wired.array_columns;
  const std::int64_t left = wired.columns - begin;
  return {group * wired.outputs, begin, left < wired.array_columns ? left : wired.array_columns};
}

/// Where the cells of a column lie: a walk from column to column without divisions.
class ColumnCells {
 public:
  __device__ __forceinline__ ColumnCells(const WiredCells& wired, const ArrayColumns& array, std::int64_t column)
      : wired_(wired) {
    const std::int64_t slot = (array.begin + column) / wired.of_column;
    polarity_ = static_cast<int>((array.begin + column) - slot * wired.of_column);
    const std::int64_t output = slot / wired.slices;
    slice_ = static_cast<int>(slot - output * wired.slices);
    output_ = array.first_output + output;
  }

  __device__ __forceinline__ void next() {
    if (++polarity_ < wired_.of_column) return;
    polarity_ = 0;
    if (++slice_ < wired_.slices) return;
    slice_ = 0;
    ++output_;
  }

  /// Of the first input, in row `row` of it.
  __device__ __forceinline__ std::int16_t* cells(int row) const {
    const std::int64_t plane = slice_ * (wired_.of_column * wired_.of_row) + polarity_ + row;
    return wired_.cells + (plane * wired_.all_outputs + output_) * wired_.inputs;
  }

 private:
  const WiredCells& wired_;
  std::int64_t output_;
  int slice_;
  int polarity_;
};

__device__ __forceinline__ std::int64_t* word_sums_of(const WiredCells& wired, std::int64_t array, std::int64_t column,
                                                      int row) {
  return wired.word_sums + ((array * wired.array_columns + column) * wired.of_row + row) * wired.inputs;
}

/// W of every cell: sum over the columns q of the array of (min(j, q) + 1) * g[q]. Neighbouring threads have
/// neighbouring inputs, each warp of a block has its share of the columns.
__global__ void __launch_bounds__(kThreads) sum_word_lines(const WiredCells wired) {
  const SharedArray<std::int64_t> sums = shared_memory<std::int64_t>(0, kThreads);
  const SharedArray<std::int64_t> weighted = shared_memory<std::int64_t>(kThreads * sizeof(std::int64_t), kThreads);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int part = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t chunks = (wired.inputs + kLanes - 1) / kLanes;
  const std::int64_t line = blockIdx.x / chunks;
  const std::int64_t input = (blockIdx.x - line * chunks) * kLanes + lane;
  const std::int64_t array = line / wired.of_row;
  const int row = static_cast<int>(line - array * wired.of_row);
  const ArrayColumns columns = columns_of(wired, array);
  const std::int64_t begin = columns.count * part / kParts;
  const std::int64_t end = columns.count * (part + 1) / kParts;
  const bool used = input < wired.inputs;
  std::int64_t sum = 0;
  std::int64_t weighted_sum = 0;
  if (used) {
    ColumnCells column(wired, columns, begin);
#pragma unroll 4
    for (std::int64_t j = begin; j < end; ++j, column.next()) {
      const std::int64_t g = column.cells(row)[input];
      sum += g;
      weighted_sum += (j + 1) * g;
    }
  }
  sums.store(part * kLanes + lane, sum);
  weighted.store(part * kLanes + lane, weighted_sum);
  __syncthreads();
  if (!used) return;
  std::int64_t before = 0;  // sum of (q + 1) * g for the columns q of the parts before this one
  std::int64_t beyond = 0;  // sum of g from this column on
  for (int p = 0; p < kParts; ++p) {
    if (p < part) {
      before += weighted.load(p * kLanes + lane);
    } else {
      beyond += sums.load(p * kLanes + lane);
    }
  }
  std::int64_t w = before + begin * beyond;  // that of the column before
  ColumnCells column(wired, columns, begin);
#pragma unroll 4
  for (std::int64_t j = begin; j < end; ++j, column.next()) {
    w += beyond;
    word_sums_of(wired, array, j, row)[input] = w;
    beyond -= column.cells(row)[input];
  }
}

/// The sum over the lanes up to this one.
__device__ __forceinline__ std::int64_t sum_so_far(std::int64_t value, int lane) {
#pragma unroll
  for (int delta = 1; delta < kLanes; delta *= 2) {
    const std::int64_t other = __shfl_up_sync(kWholeWarp, value, static_cast<unsigned>(delta));
    if (lane >= delta) value += other;
  }
  return value;
}

__device__ __forceinline__ std::int64_t of_last_lane(std::int64_t value) {
  return __shfl_sync(kWholeWarp, value, kLanes - 1);
}

/// g' in place of g. A warp has one column of an array, a lane one input of 32: its kRows cells.
template <int kRows>
__global__ void __launch_bounds__(kThreads) attenuate_bit_lines(const WiredCells wired) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t warp = std::int64_t{blockIdx.x} * kParts + threadIdx.x / kLanes;
  const std::int64_t arrays_down = (wired.inputs + wired.array_inputs - 1) / wired.array_inputs;
  const std::int64_t line = warp / arrays_down;
  const std::int64_t array = line / wired.array_columns;
  if (array >= wired.arrays) return;
  const std::int64_t column = line - array * wired.array_columns;
  const ArrayColumns columns = columns_of(wired, array);
  if (column >= columns.count) return;
  const std::int64_t first_input = (warp - line * arrays_down) * wired.array_inputs;
  const std::int64_t left = wired.inputs - first_input;
  const std::int64_t count = left < wired.array_inputs ? left : wired.array_inputs;
  const ColumnCells place(wired, columns, column);
  std::int16_t* cells[kRows];
  const std::int64_t* word_sums[kRows];
  std::int64_t all = 0;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    cells[row] = place.cells(row) + first_input;
    word_sums[row] = word_sums_of(wired, array, column, row) + first_input;
#pragma unroll 4
    for (std::int64_t i = lane; i < count; i += kLanes) all += cells[row][i];
  }
  all = of_last_lane(sum_so_far(all, lane));
  std::int64_t plain = 0;     // sum of g over the inputs before
  std::int64_t weighted = 0;  // sum of (p + 1) * g over them
  for (std::int64_t begin = 0; begin < count; begin += kLanes) {
    const std::int64_t input = begin + lane;
    const bool used = input < count;
    std::int64_t of_lane = 0;
    std::int64_t weighted_of_lane = 0;
    std::int32_t g[kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      g[row] = used ? cells[row][input] : 0;
      of_lane += g[row];
      weighted_of_lane += (kRows * input + row + 1) * g[row];
    }
    const std::int64_t up_to_lane = sum_so_far(of_lane, lane);
    const std::int64_t weighted_up_to_lane = sum_so_far(weighted_of_lane, lane);
    std::int64_t here = plain + up_to_lane - of_lane;
    std::int64_t weighted_here = weighted + weighted_up_to_lane - weighted_of_lane;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const std::int64_t from_converter = kRows * input + row + 1;
      const std::int64_t own = from_converter * g[row];
      here += g[row];
      weighted_here += own;
      const std::int64_t others = weighted_here + from_converter * (all - here) - own;
      if (used) {
        cells[row][input] =
            static_cast<std::int16_t>(attenuated(wired.drop, g[row], word_sums[row][input], own, others));
      }
    }
    plain += of_last_lane(up_to_lane);
    weighted += of_last_lane(weighted_up_to_lane);
  }
}

WiredCells wired_cells(const IrDrop& drop, const MvmPlan& plan, const Hardware& hardware, std::int64_t groups) {
  WiredCells wired = {};
  wired.drop = drop;
  wired.inputs = plan.inputs;
  wired.outputs = plan.outputs;
  wired.all_outputs = plan.outputs * groups;
  // The reference column of `offset`, taken as exact, draws no current here.
  wired.columns = plan.columns - reference_columns(plan.mapping);
  wired.array_columns = std::min<std::int64_t>(hardware.cols, wired.columns);
  wired.array_inputs = inputs_per_tile(hardware);
  wired.arrays_across = ceil_div(wired.columns, wired.array_columns);
  wired.slices = plan.n_w;
  wired.of_column = column_polarities(plan.mapping);
  wired.of_row = row_polarities(plan.mapping);
  return wired;
}

/// Of the sums of arrays below one another.
std::int64_t bytes_of_array(const WiredCells& wired) {
  return wired.array_columns * wired.of_row * wired.inputs * static_cast<std::int64_t>(sizeof(std::int64_t));
}

}  // namespace

std::size_t ir_drop_bytes(const IrDrop& drop, const MvmPlan& plan, const Hardware& hardware, std::int64_t groups,
                          std::size_t most) {
  if (!drop.any() || plan.outputs * plan.inputs * groups == 0) return 0;
  const WiredCells wired = wired_cells(drop, plan, hardware, groups);
  const std::int64_t fitting = static_cast<std::int64_t>(most) / bytes_of_array(wired);
  const std::int64_t arrays = std::clamp<std::int64_t>(fitting, 1, wired.arrays_across * groups);
  return static_cast<std::size_t>(arrays * bytes_of_array(wired));
}

void apply_ir_drop(const IrDrop& drop, const MvmPlan& plan, const Hardware& hardware, std::int64_t groups,
                   std::int16_t* cells, WorkMemory memory, Stream stream) {
  if (!drop.any() || plan.outputs * plan.inputs * groups == 0) return;
  WiredCells wired = wired_cells(drop, plan, hardware, groups);
  const std::int64_t at_once = static_cast<std::int64_t>(memory.bytes) / bytes_of_array(wired);
  check(at_once > 0, "apply_ir_drop: the columns of one array need ", bytes_of_array(wired),
        " bytes of memory to work in, got ", memory.bytes);
  wired.cells = cells;
  wired.word_sums = static_cast<std::int64_t*>(memory.data);
  Work work = {"programmed_cells",
               "sum_word_lines",
               {{{"groups", groups}, {"outputs", plan.outputs}, {"inputs", plan.inputs}, {"slices", plan.n_w}}}};
  const std::int64_t all = wired.arrays_across * groups;
  for (wired.first_array = 0; wired.first_array < all; wired.first_array += wired.arrays) {
    wired.arrays = std::min(at_once, all - wired.first_array);
    work.kernel = "sum_word_lines";
    launch(work,
           grid_of(ceil_div<std::int64_t>(wired.inputs, kLanes) * wired.of_row * wired.arrays * kThreads, kThreads,
                   2 * kThreads * sizeof(std::int64_t)),
           stream, sum_word_lines, wired);
    work.kernel = "attenuate_bit_lines";
    const std::int64_t lines = wired.arrays * wired.array_columns * ceil_div(wired.inputs, wired.array_inputs);
    launch(work, grid_of(lines * kLanes, kThreads), stream,
           wired.of_row == 2 ? attenuate_bit_lines<2> : attenuate_bit_lines<1>, wired);
  }
}

}  // namespace cimq::kernels::cuda
