// The end of the crossbar product's kernel (mvm_block.h) that leaves what gradients need of every conversion.
//
// Registers are short: of a tile a thread keeps the sums of the step's gradient, and of the weights of digits that
// pass, which are at most 255, one byte per result. Sums over tiles wait in memory.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mvm_accumulators.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/mvm_places.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/formula/adc.h"

namespace cimq::kernels::cuda {

/// ConversionShares of kernels/conversions.h; the pointers may be null.
struct ShareArguments {
  float* pass;
  float* step;
  std::int32_t digits;  ///< sum of the magnitudes of the digits' weights
};

/// Largest sum of the magnitudes of digits' weights: activations have 8 bits.
constexpr int kMostShares = 256;
constexpr int kShareTable = kSharedBytes;  ///< where in shared memory the shares lie, by the weights that pass
constexpr int kPassedBytes = kShareTable + kMostShares * 4;  ///< where a thread has its sums, [tiles][threads]
constexpr int kPassedWords = kRowTiles * kLineTiles * kBlockThreads;
constexpr int kShareBytes = kPassedBytes + kPassedWords * 4;

/// kByColumn: every column has a range of its own.
template <Cells kCells, bool kByColumn>
class ShareEpilogue : public MvmCurrents<kCells> {
 public:
  using MvmCurrents<kCells>::arguments;
  using MvmCurrents<kCells>::kOutputTiles;
  static constexpr bool kDigitsInPlace = false;
  static constexpr bool kAddsActivations = false;

  __device__ __forceinline__ ShareEpilogue(const MvmArguments& of_product, const ShareArguments& shares)
      : MvmCurrents<kCells>{of_product, {}, {}}, shares_(shares) {}

  __device__ __forceinline__ std::int32_t start_of(int /*slice*/, const DigitArguments& /*digit*/) const { return 0; }

  __device__ __forceinline__ void begin() {
    this->begin_reads(kShareBytes);
    for (int j = this_thread(); j <= shares_.digits; j += kBlockThreads) {
      table()[j] = static_cast<float>(j) / static_cast<float>(shares_.digits);
    }
    start_tile();
  }

  /// The sign of the second column of a pair comes in at the tile's end.
  __device__ __forceinline__ void convert(const Stage& stage, int digit) {
    this->read(stage, digit, kShareBytes);
    const auto weight = static_cast<float>(arguments.digit[digit].weight);
    this->template for_each_range<kByColumn>(stage.slice, [&](int n, int parity, std::int32_t lo, float inv_lsb,
                                                              std::int64_t /*column*/) __attribute__((always_inline)) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        std::uint32_t weights = 0;
#pragma unroll
        for (int j = parity; j < 4; j += 2) {
          const AdcConversion found =
              adc_convert(this->current(m, n, j) - lo, inv_lsb, arguments.lowest, arguments.highest);
          const bool clipped = found.below || found.above;
          weights += (clipped ? 0U : static_cast<std::uint32_t>(fabsf(weight))) << (8 * j);
          step_[m][n][j] += weight * (found.code - (clipped ? 0.0F : found.scaled));
        }
        passed()[passed_place(m, n)] += weights;
      }
    });
  }

  __device__ __forceinline__ void end_tile(const Stage& stage) {
    const int id = this_thread();
    const int first_o = first_output<kCells>(arguments, id);
    const std::int64_t first_row_of_lane = first_row(arguments) + warp_row(id) + id % 32 / 4;
    const std::int64_t matrix = std::int64_t{this_chip()} * arguments.groups + this_group();
    const std::int64_t plane = (matrix * arguments.tiles + stage.tile) * arguments.columns + stage.column;
    const std::int64_t pass_rows = (plane * arguments.slices + stage.slice) * arguments.rows;
    const std::int64_t step_rows = (matrix * arguments.slices + stage.slice) * arguments.rows;
    const bool first = stage.tile == 0 && stage.column == 0;
    const float sign = stage.column == 0 ? 1.0F : -1.0F;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const std::int64_t row = first_row_of_lane + m * 16 + j / 2 * 8;
        if (row >= arguments.rows) continue;
        const std::int64_t pass = (pass_rows + row) * arguments.outputs;
        const std::int64_t step = (step_rows + row) * arguments.outputs;
#pragma unroll
        for (int n = 0; n < kOutputTiles; ++n) {
          const int o = first_o + output_offset(n, j);
          if (o >= arguments.outputs) continue;
          if (shares_.pass != nullptr) {
            shares_.pass[pass + o] = table()[static_cast<int>(passed().load(passed_place(m, n)) >> (8 * j) & 0xffU)];
          }
          if (shares_.step != nullptr) {
            float& sum = shares_.step[step + o];
            sum = (first ? 0.0F : sum) + sign * step_[m][n][j];
          }
        }
      }
    }
    start_tile();
  }

  template <typename Operands>
  __device__ __forceinline__ void end_slice(const Operands& /*operands*/, SharedArray<std::int32_t> /*row_sums*/,
                                            int /*slice*/) {}

 private:
  // Not members, which would take registers.
  __device__ __forceinline__ static SharedArray<float> table() {
    return shared_memory<float>(kShareTable, kMostShares);
  }
  /// Byte j is of element j.
  __device__ __forceinline__ static SharedArray<std::uint32_t> passed() {
    return shared_memory<std::uint32_t>(kPassedBytes, kPassedWords);
  }
  __device__ __forceinline__ static int passed_place(int m, int n) {
    return (m * kLineTiles + n) * kBlockThreads + this_thread();
  }

  __device__ __forceinline__ void start_tile() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
        passed()[passed_place(m, n)] = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) step_[m][n][j] = 0.0F;
      }
    }
  }

  const ShareArguments& shares_;
  float step_[kRowTiles][kOutputTiles][4];
};

}  // namespace cimq::kernels::cuda
