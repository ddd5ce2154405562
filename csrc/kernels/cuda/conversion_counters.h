// The end of the crossbar product's kernel (mvm_block.h) that counts conversions. Codes are counted in shared memory
// where there is room for them; what a block found of a slice is added to the counters of the device at the slice's
// end.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/mvm_accumulators.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/mvm_places.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/formula/adc.h"

namespace cimq::kernels::cuda {

/// ConversionCounters of conversions.h, and the ranges in float64.
struct CountArguments {
  unsigned long long* codes;
  unsigned long long* clipped;
  long long* currents;
  double* errors;  ///< [slices][blocks]
  std::int32_t levels;
  double level;              ///< levels of one unit of current
  const double* column_lsb;  ///< [groups][slices][outputs]; null where a slice has one range
  double lsb[kMaxSlices];    ///< of the slices then
};

constexpr int kSharedCodes = 4096;  ///< converters of more codes count in global memory
/// Tiles after which counters of 32 bits are emptied: a block has 4096 results of at most 8 digits.
constexpr int kTilesPerFlush = 1024;
constexpr int kErrorSums = kSharedBytes;  ///< where in shared memory warps leave their sums
constexpr int kErrorSumBytes = kBlockThreads / 32 * 8;
/// Where the counters of codes lie, behind the keys of read noise.
constexpr int code_counters(Cells cells) { return kErrorSums + kErrorSumBytes + read_key_bytes(cells); }
constexpr std::int32_t kNoLowest = std::numeric_limits<std::int32_t>::max();  ///< of threads without results
constexpr std::int32_t kNoHighest = std::numeric_limits<std::int32_t>::min();
/// Bytes of a block.
constexpr int count_bytes(Cells cells, int levels) {
  return code_counters(cells) + (levels <= kSharedCodes ? levels : 0) * 4;
}

/// kByColumn: every column has a range of its own.
template <Cells kCells, bool kByColumn>
class CountEpilogue : public MvmCurrents<kCells> {
 public:
  using MvmCurrents<kCells>::arguments;
  using MvmCurrents<kCells>::kOutputTiles;
  static constexpr bool kDigitsInPlace = false;
  static constexpr bool kAddsActivations = false;

  __device__ __forceinline__ CountEpilogue(const MvmArguments& of_product, const CountArguments& counts)
      : MvmCurrents<kCells>{of_product, {}, {}},
        counts_(counts),
        codes_(shared_memory<unsigned>(code_counters(kCells), counts.levels <= kSharedCodes ? counts.levels : 0)) {}

  __device__ __forceinline__ std::int32_t start_of(int /*slice*/, const DigitArguments& /*digit*/) const { return 0; }

  /// The barrier before the first stage comes after this.
  __device__ __forceinline__ void begin() {
    this->begin_reads(kErrorSums + kErrorSumBytes);
    for (int code = this_thread(); code < codes_.size(); code += kBlockThreads) codes_[code] = 0;
    start_slice();
  }

  __device__ __forceinline__ void convert(const Stage& stage, int digit) {
    this->read(stage, digit, kErrorSums + kErrorSumBytes);
    const int slice = stage.slice;
    const int id = this_thread();
    const int first_o = first_output<kCells>(arguments, id);
    const std::int64_t first_row_of_lane = first_row(arguments) + warp_row(id) + id % 32 / 4;
    this->template for_each_range<kByColumn>(slice, [&](int n, int parity, std::int32_t lo, float inv_lsb,
                                                        std::int64_t column) __attribute__((always_inline)) {
      if (first_o + output_offset(n, parity) >= arguments.outputs) return;
      const double lsb = kByColumn ? __ldg(counts_.column_lsb + column) : counts_.lsb[slice];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int j = parity; j < 4; j += 2) {
          if (first_row_of_lane + m * 16 + j / 2 * 8 < arguments.rows) {
            count(slice, this->current(m, n, j), lo, inv_lsb, lsb);
          }
        }
      }
    });
  }

  __device__ __forceinline__ void end_tile(const Stage& stage) {
    if ((stage.tile + 1) % kTilesPerFlush == 0) flush(stage.slice);
  }

  template <typename Operands>
  __device__ __forceinline__ void end_slice(const Operands& /*operands*/, SharedArray<std::int32_t> /*row_sums*/,
                                            int slice) {
    flush(slice);
    const double error = block_sum(error_, shared_memory<double>(kErrorSums, kBlockThreads / 32));
    if (this_thread() == 0) {
      const std::int64_t blocks = std::int64_t{gridDim.x} * gridDim.y * gridDim.z;
      const std::int64_t block = (std::int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      counts_.errors[slice * blocks + block] = error;
    }
    start_slice();
  }

 private:
  __device__ __forceinline__ void start_slice() {
    error_ = 0.0;
    start_counters();
  }

  __device__ __forceinline__ void start_counters() {
    below_ = above_ = 0;
    lowest_ = kNoLowest;
    highest_ = kNoHighest;
  }

  __device__ __forceinline__ void count(int slice, std::int32_t current, std::int32_t lo, float inv_lsb, double lsb) {
    const AdcConversion found = adc_convert(current - lo, inv_lsb, arguments.lowest, arguments.highest);
    const auto code = static_cast<std::int32_t>(found.code);
    below_ += found.below ? 1 : 0;
    above_ += found.above ? 1 : 0;
    lowest_ = min(lowest_, current);
    highest_ = max(highest_, current);
    error_ += adc_squared_error(lo, lsb, current, code, counts_.level);
    if (counts_.levels <= kSharedCodes) {
      codes_.atomic_add(code - arguments.code_min, 1U);
    } else {
      atomicAdd(counts_.codes + std::int64_t{slice} * counts_.levels + (code - arguments.code_min), 1ULL);
    }
  }

  /// Adds the counters to those of the device and empties them. All threads.
  __device__ __forceinline__ void flush(int slice) {
    __syncthreads();
    unsigned long long* const codes = counts_.codes + std::int64_t{slice} * counts_.levels;
    for (int code = this_thread(); code < codes_.size(); code += kBlockThreads) {
      const unsigned times = codes_[code];
      codes_[code] = 0;
      if (times != 0) atomicAdd(codes + code, static_cast<unsigned long long>(times));
    }
    const int below = __reduce_add_sync(kWholeWarp, below_);
    const int above = __reduce_add_sync(kWholeWarp, above_);
    const int lowest = __reduce_min_sync(kWholeWarp, lowest_);
    const int highest = __reduce_max_sync(kWholeWarp, highest_);
    if (this_thread() % kWarpThreads == 0 && lowest <= highest) {
      if (below != 0) atomicAdd(counts_.clipped + 2 * slice, static_cast<unsigned long long>(below));
      if (above != 0) atomicAdd(counts_.clipped + 2 * slice + 1, static_cast<unsigned long long>(above));
      atomicMin(counts_.currents + 2 * slice, static_cast<long long>(lowest));
      atomicMax(counts_.currents + 2 * slice + 1, static_cast<long long>(highest));
    }
    start_counters();
    __syncthreads();
  }

  const CountArguments& counts_;
  SharedArray<unsigned> codes_;
  double error_;
  int below_;
  int above_;
  std::int32_t lowest_;
  std::int32_t highest_;
};

}  // namespace cimq::kernels::cuda
