// Conversions on int8 tensor cores: the kernel of the crossbar product (mvm_block.h) with ends of its own.
#include <cstdlib>
#include <limits>

#include "common/error.h"
#include "common/rounding.h"
#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/conversion_counters.h"
#include "kernels/cuda/conversion_shares.h"
#include "kernels/cuda/conversions.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mvm_block.h"

namespace cimq::kernels::cuda {
namespace {

constexpr int kSumThreads = 256;

template <Cells kCells, bool kByColumn>
__global__ void __launch_bounds__(kBlockThreads, 2)
    conversion_shares(const MvmArguments arguments, const GroupedRows rows, const ShareArguments shares) {
  MvmBlock<ShareEpilogue<kCells, kByColumn>, GroupedRows>(arguments, rows, shares).run();
}

template <Cells kCells, bool kByColumn>
__global__ void __launch_bounds__(kBlockThreads, 2)
    conversion_counts(const MvmArguments arguments, const GroupedRows rows, const CountArguments counts) {
  MvmBlock<CountEpilogue<kCells, kByColumn>, GroupedRows>(arguments, rows, counts).run();
}

auto shares_kernel(const MvmLayer& layer) {
  const bool by_column = layer.plan().by_column();
  return kernel_for(layer.cells(), [by_column](auto cells) {
    return by_column ? conversion_shares<cells(), true> : conversion_shares<cells(), false>;
  });
}

auto counts_kernel(const MvmLayer& layer) {
  const bool by_column = layer.plan().by_column();
  return kernel_for(layer.cells(), [by_column](auto cells) {
    return by_column ? conversion_counts<cells(), true> : conversion_counts<cells(), false>;
  });
}

/// A block adds up what all blocks found of a slice.
__global__ void __launch_bounds__(kSumThreads)
    sum_errors(const double* errors, std::int64_t blocks, double* squared_error) {
  const double* const of_slice = errors + std::int64_t{blockIdx.x} * blocks;
  double sum = 0.0;
  for (std::int64_t j = threadIdx.x; j < blocks; j += kSumThreads) sum += of_slice[j];
  const double total = block_sum(sum, shared_memory<double>(0, kSumThreads / kWarpThreads));
  if (threadIdx.x == 0) squared_error[blockIdx.x] += total;
}

void check_conversions(const MvmLayer& layer, std::int64_t rows, const char* op) {
  check(!layer.plan().ideal && !layer.plan().collapses, op, ": needs a converter and cells that are not folded");
  check(rows >= 0, op, ": rows must be at least 0, got ", rows);
}

/// The layer's arguments with digits that lie at the lowest bit, as adc_convert wants whole currents.
MvmArguments conversion_arguments(const MvmLayer& layer, const DeviceImage& image, std::int64_t rows,
                                  const Accesses& accesses) {
  MvmArguments a = layer.arguments(image, rows, nullptr, accesses);
  for (int i = 0; i < a.digits; ++i) {
    DigitArguments& digit = a.digit[i];
    digit = {digit.mask >> digit.place, digit.shift + digit.place, digit.weight, 1.0F, 0};
  }
  return a;
}

GroupedRows rows_of_groups(const MvmLayer& layer, const std::uint8_t* x, const MvmArguments& arguments) {
  check(arguments.rows <= std::numeric_limits<std::int32_t>::max() / layer.groups(),
        "crossbar conversions: a CUDA device takes at most 2147483647 rows of all groups at once, got ", arguments.rows,
        " of ", layer.groups(), " groups; split the batch");
  return {layer.matrix(x)};
}

std::int64_t blocks_of_matrix(const MvmArguments& arguments) {
  return ceil_div<std::int64_t>(arguments.rows, kBlockRows) * (arguments.lines / kBlockLines);
}

Work work_of(const char* kernel, const MvmLayer& layer, const MvmArguments& arguments, int chips) {
  return {"crossbar conversions",
          kernel,
          {{{"rows", arguments.rows},
            {"inputs", arguments.inputs},
            {"outputs", arguments.outputs},
            {"groups", layer.groups()},
            {"chips", chips}}}};
}

Grid grid_of_blocks(const Work& work, const MvmLayer& layer, const MvmArguments& arguments, int chips,
                    int shared_bytes) {
  const std::int64_t blocks = blocks_of_matrix(arguments);
  check(blocks <= std::numeric_limits<std::int32_t>::max(), work.op,
        ": a CUDA device takes at most 2147483647 blocks of 64 x 64 results, got ", blocks, "; split the batch");
  return {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(chips), static_cast<unsigned>(layer.groups())),
          dim3(kBlockThreads), static_cast<std::size_t>(shared_bytes)};
}

}  // namespace

void shares_of_conversions(const MvmLayer& layer, const DeviceImage& image, const std::uint8_t* x,
                           const ConversionShares& out, const Accesses& accesses, Stream stream) {
  check_conversions(layer, out.rows, "shares_of_conversions");
  if (out.rows == 0 || (out.pass == nullptr && out.step == nullptr)) return;
  const MvmArguments arguments = conversion_arguments(layer, image, out.rows, accesses);
  ShareArguments shares = {out.pass, out.step, 0};
  for (const std::int32_t weight : layer.plan().digit_weights) shares.digits += std::abs(weight);
  const Work work = work_of("conversion_shares", layer, arguments, image.chips);
  launch(work, grid_of_blocks(work, layer, arguments, image.chips, kShareBytes + read_key_bytes(layer.cells())), stream,
         shares_kernel(layer), arguments, rows_of_groups(layer, x, arguments), shares);
}

std::int64_t count_conversions_scratch(const MvmLayer& layer, int chips, std::int64_t rows) {
  MvmArguments arguments = layer.shape();
  arguments.rows = rows;
  return blocks_of_matrix(arguments) * chips * layer.groups() * arguments.slices;
}

void count_conversions(const MvmLayer& layer, const DeviceImage& image, const std::uint8_t* x, std::int64_t rows,
                       const ConversionCounters& out, const Accesses& accesses, Stream stream) {
  check_conversions(layer, rows, "count_conversions");
  if (rows == 0) return;
  const MvmPlan& plan = layer.plan();
  const MvmArguments arguments = conversion_arguments(layer, image, rows, accesses);
  CountArguments counts = {};
  counts.codes = reinterpret_cast<unsigned long long*>(out.codes);
  counts.clipped = reinterpret_cast<unsigned long long*>(out.clipped);
  counts.currents = reinterpret_cast<long long*>(out.currents);
  counts.errors = out.scratch;
  counts.levels = plan.levels;
  counts.level = 1.0 / plan.unit();
  counts.column_lsb = layer.column_lsb(image);
  if (!plan.by_column()) {
    for (int s = 0; s < plan.n_w; ++s) counts.lsb[s] = plan.slices[static_cast<std::size_t>(s)].lsb;
  }
  Work work = work_of("conversion_counts", layer, arguments, image.chips);
  const Grid grid = grid_of_blocks(work, layer, arguments, image.chips, count_bytes(layer.cells(), plan.levels));
  launch(work, grid, stream, counts_kernel(layer), arguments, rows_of_groups(layer, x, arguments), counts);
  work.kernel = "sum_errors";
  const std::int64_t blocks = blocks_of_matrix(arguments) * image.chips * layer.groups();
  launch(work,
         Grid{dim3(static_cast<unsigned>(plan.n_w)), dim3(kSumThreads), kSumThreads / kWarpThreads * sizeof(double)},
         stream, sum_errors, counts.errors, blocks, out.squared_error);
}

}  // namespace cimq::kernels::cuda
