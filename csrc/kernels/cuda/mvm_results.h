// What a slice of the crossbar product adds to the results, in the order that docs/numbers.md fixes, and the end of the
// product's kernel.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mvm_accumulators.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/mvm_operands.h"
#include "kernels/cuda/mvm_places.h"
#include "kernels/cuda/shared_memory.h"

namespace cimq::kernels::cuda {

/// What is added to all results of a column.
struct ColumnTerms {
  float scale = 0.0F;
  float lo_constant = 0.0F;
  std::int32_t weight_sum = 0;
};

__device__ __forceinline__ ColumnTerms terms_of(const MvmArguments& arguments, int slice, int o) {
  ColumnTerms terms;
  terms.scale = arguments.slice[slice].scale;
  if (arguments.column_scale != nullptr)
    terms.scale = __ldg(arguments.column_scale + column_index(arguments, slice, o));
  if (slice + 1 < arguments.slices) return terms;
  terms.lo_constant = __ldg(arguments.lo_constants + column_index(arguments, o));
  terms.weight_sum = __ldg(arguments.weight_sums + column_index(arguments, o));
  return terms;
}

/// What is subtracted digitally: the input shift and the weight offset. `row_sum`: of the activations.
__device__ __forceinline__ std::int64_t correction(const MvmArguments& arguments, const ColumnTerms& terms,
                                                   std::int32_t row_sum) {
  const std::int64_t applied = row_sum + std::int64_t{arguments.input_shift} * arguments.inputs;
  return -std::int64_t{arguments.input_shift} * terms.weight_sum - arguments.weight_shift * applied;
}

template <typename Sum>
__device__ __forceinline__ std::int32_t added(const MvmArguments& arguments, std::int32_t before, int slice,
                                              const ColumnTerms& terms, Sum sum, std::int32_t row_sum) {
  auto total = static_cast<std::uint32_t>(before);
  total += static_cast<std::uint32_t>(arguments.slice[slice].weight) * static_cast<std::uint32_t>(sum);
  if (slice + 1 == arguments.slices) total += static_cast<std::uint32_t>(correction(arguments, terms, row_sum));
  return static_cast<std::int32_t>(total);
}

template <typename Sum>
__device__ __forceinline__ float added(const MvmArguments& arguments, float before, int slice, const ColumnTerms& terms,
                                       Sum sum, std::int32_t row_sum) {
  float total = before + static_cast<float>(sum) * terms.scale;
  if (slice + 1 == arguments.slices) {
    total = total + terms.lo_constant;
    total = total + static_cast<float>(correction(arguments, terms, row_sum));
  }
  return total;
}

/// Adds the sums of a slice to the results, as T. Everything is read before anything is used, so that the block waits
/// for memory once.
template <typename T, Cells kCells, Converter kConverter, typename Operands>
__device__ __forceinline__ void add_results(const MvmArguments& arguments, const Operands& operands,
                                            const MvmAccumulators<kCells, kConverter>& accumulators,
                                            SharedArray<std::int32_t> all_row_sums, int slice) {
  using Accumulators = MvmAccumulators<kCells, kConverter>;
  constexpr int kOutputTiles = Accumulators::kOutputTiles;
  const int id = this_thread();
  const int first_o = first_output<kCells>(arguments, id);
  T* const y = static_cast<T*>(arguments.y);
  T before[kRowTiles][kOutputTiles][4];
  ColumnTerms terms[kOutputTiles][2];
  std::int64_t first[kRowTiles][2];  // result of output 0
  bool inside[kRowTiles][2];
  const std::int64_t first_row_of_lane = first_row(arguments) + warp_row(id) + id % 32 / 4;
  const std::int64_t step = result_step(operands);
  std::int32_t row_sums[kRowTiles][2];
  if (arguments.weight_shift != 0) __syncwarp();  // those of other lanes
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t row = first_row_of_lane + m * 16 + half * 8;
      inside[m][half] = row < arguments.rows;
      row_sums[m][half] = arguments.weight_shift != 0 ? all_row_sums.load(row_sum_place(id, m, half)) : 0;
      first[m][half] = first_result(operands, arguments, inside[m][half] ? row : 0);
    }
  }
#pragma unroll
  for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int o = first_o + output_offset(n, j);
        const bool wanted = slice > 0 && inside[m][j / 2] && o < arguments.outputs;
        before[m][n][j] = wanted ? y[first[m][j / 2] + o * step] : T{0};
      }
    }
#pragma unroll
    for (int parity = 0; parity < 2; ++parity) {
      terms[n][parity] = terms_of(arguments, slice, min(first_o + output_offset(n, parity), arguments.outputs - 1));
    }
  }
#pragma unroll
  for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
    for (int parity = 0; parity < 2; ++parity) {
      const int o = first_o + output_offset(n, parity);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int j = 2 * half + parity;
          typename Accumulators::Sum sum = accumulators.sums[m][n][j];
          if constexpr (kConverter == Converter::kShifted) Accumulators::add(sum, -1, arguments.sum_bias);
          const T total = added(arguments, before[m][n][j], slice, terms[n][parity], sum, row_sums[m][half]);
          if (inside[m][half] && o < arguments.outputs) y[first[m][half] + o * step] = total;
        }
      }
    }
  }
}

/// What MvmBlock makes of currents: results of the product.
template <Cells kCells, Converter kConverter>
struct ProductEpilogue : MvmAccumulators<kCells, kConverter> {
  static constexpr bool kDigitsInPlace = kConverter != Converter::kGeneral && kCells != Cells::kReads;
  static constexpr bool kAddsActivations = true;

  __device__ __forceinline__ explicit ProductEpilogue(const MvmArguments& of_product)
      : MvmAccumulators<kCells, kConverter>{{of_product, {}, {}}, {}} {}

  __device__ __forceinline__ void begin() {
    this->begin_reads(kSharedBytes);
    this->start_sums();
  }
  __device__ __forceinline__ void end_tile(const Stage& /*stage*/) {}

  template <typename Operands>
  __device__ __forceinline__ void end_slice(const Operands& operands, SharedArray<std::int32_t> row_sums, int slice) {
    if (this->arguments.exact) {
      add_results<std::int32_t>(this->arguments, operands, *this, row_sums, slice);
    } else {
      add_results<float>(this->arguments, operands, *this, row_sums, slice);
    }
    this->start_sums();
  }
};

}  // namespace cimq::kernels::cuda
