// A block of the crossbar product: 64 batch rows against 64 lines of cells, four warps of 32 x 32.
//
// Time is a list of stages, each a chunk of at most 256 inputs: per plane (slice, column of a pair), row tile and,
// where a tile has several chunks, digit. A stage's bytes come into shared memory by asynchronous copies while the one
// before is computed, and from there into registers, raw activations and cells alike. All digits of a chunk are then
// taken from the same registers: two logical operations per four activations, and no further access of any memory.
// Currents stay in the accumulators of the tensor cores until the tile ends, where the converter makes codes of them;
// codes are added up, weighted, in registers too. Only the results of a slice leave the block.
//
// Registers of a thread: activations 2 x 8 x 4, cells 4 x 8 x 2, accumulators 2 x 4 x 4, sums the same: 192.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "common/rounding.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/mvm_operands.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/formula/adc.h"

namespace cimq::kernels::cuda {

/// The work between two barriers.
struct Stage {
  int slice = 0;
  int column = 0;
  int tile = 0;
  int digit = 0;  ///< of a tile with several chunks; else all digits are worked on at once
  int chunk = 0;
};

template <bool kWords, Converter kConverter, typename Operands>
class MvmBlock {
 public:
  static constexpr int kRowTiles = 2;                      ///< of 16 rows, per warp
  static constexpr int kLineTiles = kWarpLines / 8;        ///< of 8 lines, per warp
  static constexpr int kSteps = kChunkBytes / kStepBytes;  ///< matrix instructions per chunk
  static constexpr int kOutputTiles = kWords ? kLineTiles / 2 : kLineTiles;
  /// Without a converter fractional currents add up beyond 32 bits.
  using Sum = std::conditional_t<kWords && kConverter == Converter::kNone, std::int64_t, std::int32_t>;

  __device__ __forceinline__ MvmBlock(const MvmArguments& arguments, const Operands& operands)
      : args_(arguments),
        operands_(operands),
        activations_(shared_memory<std::uint8_t>(0, kBlockRows * kChunkBytes)),
        row_sums_(shared_memory<std::int32_t>((kBlockRows + kBlockLines) * kChunkBytes, kRowSums)),
        cells_(shared_memory<std::uint8_t>(kBlockRows * kChunkBytes, kBlockLines * kChunkBytes)) {}

  __device__ __forceinline__ void run() {
    Stage stage;
    begin_copies(stage);
    start_sums();
    for (bool more = true; more;) {
      wait_for_copies<0>();
      __syncthreads();
      const int steps = steps_of(stage);
      load_fragments(steps);
      __syncthreads();  // the bytes are in registers: the next may come
      Stage next = stage;
      more = advance(next);
      if (more) begin_copies(next);
      compute(stage, steps);
      stage = next;
    }
  }

 private:
  // ---- places; computed where they are used, as registers are what the kernel is short of ----

  __device__ __forceinline__ static int thread() { return fresh(static_cast<int>(threadIdx.x)); }
  __device__ __forceinline__ static int lane_of(int thread) { return thread % 32; }
  __device__ __forceinline__ static int warp_row(int thread) { return thread / 64 * (kBlockRows / 2); }
  __device__ __forceinline__ static int warp_line(int thread) { return thread / 32 % 2 * kWarpLines; }
  /// Blocks that are neighbours in the grid share their rows.
  __device__ __forceinline__ int line_blocks() const { return args_.lines / kBlockLines; }
  __device__ __forceinline__ int first_line() const {
    return fresh(static_cast<int>(blockIdx.x)) % line_blocks() * kBlockLines;
  }
  __device__ __forceinline__ std::int64_t first_row() const {
    return std::int64_t{fresh(static_cast<int>(blockIdx.x)) / line_blocks()} * kBlockRows;
  }
  __device__ __forceinline__ static int chip() { return static_cast<int>(blockIdx.y); }
  __device__ __forceinline__ static int group() { return static_cast<int>(blockIdx.z); }

  // ---- stages ----

  /// False after the last one.
  __device__ __forceinline__ bool advance(Stage& stage) const {
    if (++stage.chunk < args_.tile_chunks) return true;
    stage.chunk = 0;
    if (args_.tile_chunks > 1 && ++stage.digit < args_.digits) return true;
    stage.digit = 0;
    if (++stage.tile < args_.tiles) return true;
    stage.tile = 0;
    if (++stage.column < args_.columns) return true;
    stage.column = 0;
    return ++stage.slice < args_.slices;
  }

  __device__ __forceinline__ int bytes_of(const Stage& stage) const {
    return min(kChunkBytes, args_.tile_bytes - stage.chunk * kChunkBytes);
  }
  __device__ __forceinline__ int steps_of(const Stage& stage) const { return bytes_of(stage) / kStepBytes; }

  // ---- bytes into shared memory ----

  /// Pieces of 16 bytes change places within a line, so that eight lines' pieces of one column lie in all banks.
  __device__ __forceinline__ static int place(int line, int piece) {
    return line * kChunkBytes + ((piece ^ (line & 7)) * 16);
  }

  __device__ __forceinline__ void begin_copies(const Stage& stage) {
    constexpr int kLinesAtOnce = kBlockThreads / 16;  // eight, so that a thread's lines change places alike
    const int pieces = bytes_of(stage) / 16;
    const int line = thread() / 16;
    const int piece = thread() % 16;
    if (piece < pieces) {
      const int offset = stage.chunk * kChunkBytes + piece * 16;
      const int to = place(line, piece);
      const std::int64_t plane = std::int64_t{stage.slice * args_.columns + stage.column} * args_.tiles + stage.tile;
      const std::uint8_t* cells = args_.cells + (std::int64_t{chip()} * args_.groups + group()) * args_.matrix_bytes +
                                  (plane * args_.lines + first_line() + line) * args_.tile_bytes + offset;
      const int first = stage.tile * args_.tile_inputs;
      const int end = min(args_.inputs, first + args_.tile_inputs);
      const std::int64_t first_row_of_thread = first_row() + line;
#pragma unroll 1
      for (int j = 0; j < kBlockLines; j += kLinesAtOnce) {
        copy_async(cells_, to + j * kChunkBytes, cells, true);
        cells += std::int64_t{kLinesAtOnce} * args_.tile_bytes;
        // Rows beyond the last one repeat it.
        const std::int64_t row = first_row_of_thread + j;
        copy_row(operands_, args_, row < args_.rows ? row : args_.rows - 1, first + offset, end, activations_,
                 to + j * kChunkBytes);
      }
    }
    commit_copies();
  }

  // ---- from shared memory into registers (fragments as in mma.h) ----

  __device__ __forceinline__ void load_fragments(int steps) {
    // Step k is two pieces on: bits of the place that nothing else of it touches.
    const int id = thread();
    const int lane = lane_of(id);
    const int activations = place(warp_row(id) + lane % 16, lane / 16);
    const int cells = place(warp_line(id) + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      if (k >= steps) {
        clear_fragments(k);
        continue;
      }
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        load_matrices(a_[m][k], activations_, (activations ^ (k * kStepBytes)) + m * 16 * kChunkBytes);
      }
#pragma unroll
      for (int n = 0; n < kLineTiles; n += 2) {
        std::uint32_t two[4];
        load_matrices(two, cells_, (cells ^ (k * kStepBytes)) + n * 8 * kChunkBytes);
        b_[n][k][0] = two[0];
        b_[n][k][1] = two[1];
        b_[n + 1][k][0] = two[2];
        b_[n + 1][k][1] = two[3];
      }
    }
  }

  /// Nobody reads these; but what every stage writes takes no registers between its last use and the next stage.
  __device__ __forceinline__ void clear_fragments(int k) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) a_[m][k][j] = 0;
    }
#pragma unroll
    for (int n = 0; n < kLineTiles; ++n) b_[n][k][0] = b_[n][k][1] = 0;
  }

  // ---- products ----

  __device__ __forceinline__ void compute(const Stage& stage, int steps) {
    const bool first = stage.chunk == 0;
    const bool last = stage.chunk == args_.tile_chunks - 1;
    if (args_.weight_shift != 0 && stage.slice == 0 && stage.column == 0 && stage.digit == 0) {
      add_activations(steps, stage.tile == 0 && stage.chunk == 0);
    }
    if (args_.flip != 0) flip_activations();
    const int digits_begin = args_.tile_chunks > 1 ? stage.digit : 0;
    const int digits_end = args_.tile_chunks > 1 ? stage.digit + 1 : args_.digits;
    for (int i = digits_begin; i < digits_end; ++i) {
      const DigitArguments& digit = args_.digit[i];
      if (first) start_currents(stage.slice, digit);
      if (steps == kSteps) {
        multiply<true>(digit, steps);
      } else {
        multiply<false>(digit, steps);
      }
      if (last) convert(stage, digit);
    }
    const bool tile_ends = last && digits_end == args_.digits;
    if (!tile_ends || stage.tile + 1 < args_.tiles || stage.column + 1 < args_.columns) return;
    if (args_.exact) {
      end_slice<std::int32_t>(stage.slice);
    } else {
      end_slice<float>(stage.slice);
    }
    start_sums();
  }

  /// What is applied of signed activations that are shifted: x + 2^(a-1), of which the digits' masks take the low bits.
  __device__ __forceinline__ void flip_activations() {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int j = 0; j < 4; ++j) a_[m][k][j] ^= args_.flip;
      }
    }
  }

  __device__ __forceinline__ void start_currents(int slice, const DigitArguments& digit) {
    std::uint32_t start = 0;
    if constexpr (kConverter == Converter::kShifted) {
      start = kShiftedBits - (static_cast<std::uint32_t>(args_.slice[slice].lo) << digit.place);
    }
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kLineTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) currents_[m][n][j] = static_cast<std::int32_t>(start);
      }
    }
  }

  __device__ __forceinline__ static std::uint32_t digits_of(std::uint32_t four, const DigitArguments& digit) {
    const std::uint32_t bits = kConverter == Converter::kGeneral ? four >> digit.shift : four;
    return bits & digit.mask;
  }

  template <bool kWhole>
  __device__ __forceinline__ void multiply(const DigitArguments& digit, int steps) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      if (!kWhole && k >= steps) break;
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        std::uint32_t digits[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) digits[j] = digits_of(a_[m][k][j], digit);
#pragma unroll
        for (int n = 0; n < kLineTiles; ++n) {
          if (kWords && n >= kOutputTiles) {
            multiply_add<false, false>(currents_[m][n], digits, b_[n][k]);  // low bytes
          } else {
            multiply_add<false, true>(currents_[m][n], digits, b_[n][k]);
          }
        }
      }
    }
  }

  __device__ __forceinline__ static int row_sum_place(int id, int m, int half) {
    return id / 32 * (kBlockRows / 2) + m * 16 + half * 8 + lane_of(id) / 4;
  }

  /// Sums of the activations of each row, for the offset mapping: a product with ones.
  /// They wait in shared memory, a place per warp and row, as registers are short.
  __device__ __forceinline__ void add_activations(int steps, bool stage_is_first) {
    const int id = thread();
    const std::uint32_t ones[2] = {0x01010101U, 0x01010101U};
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      std::int32_t sums[4] = {0, 0, 0, 0};
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        if (k >= steps) break;
        if (args_.act_signed) {
          multiply_add<true, true>(sums, a_[m][k], ones);
        } else {
          multiply_add<false, true>(sums, a_[m][k], ones);
        }
      }
      if (id % 4 != 0) continue;  // the columns are all the same
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = row_sum_place(id, m, half);
        row_sums_.store(at, (stage_is_first ? 0 : row_sums_.load(at)) + sums[2 * half]);
      }
    }
  }

  // ---- converters ----

  __device__ __forceinline__ void start_sums() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums_[m][n][j] = 0;
      }
    }
  }

  __device__ __forceinline__ void convert(const Stage& stage, const DigitArguments& digit) {
    const std::int32_t weight = stage.column == 0 ? digit.weight : -digit.weight;
    if constexpr (kConverter == Converter::kNone) {
      add_currents(weight);
    } else if constexpr (kConverter == Converter::kShifted) {
      const float inv_lsb = args_.slice[stage.slice].inv_lsb * digit.scale;
      if (args_.clips) {
        add_shifted_codes<true>(weight, inv_lsb);
      } else {
        add_shifted_codes<false>(weight, inv_lsb);
      }
    } else {
      add_codes(stage.slice, weight);
    }
  }

  /// The current of one output in its unit, modulo 2^32.
  __device__ __forceinline__ std::int32_t current(int m, int n, int j) const {
    const auto high = static_cast<std::uint32_t>(currents_[m][n][j]);
    if constexpr (!kWords) return static_cast<std::int32_t>(high);
    return static_cast<std::int32_t>((high << 8) + static_cast<std::uint32_t>(currents_[m][n + kOutputTiles][j]));
  }

  __device__ __forceinline__ void add_currents(std::int32_t weight) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if constexpr (kWords) {
            sums_[m][n][j] += weight * Sum{current(m, n, j)};
          } else {
            add(sums_[m][n][j], weight, currents_[m][n][j]);
          }
        }
      }
    }
  }

  /// adc_code where the accumulator holds the bits of the float 1.5 * 2^23 + (I - lo) * 2^place: the difference of two
  /// floats is the exact float of I - lo, times 2^place; the power of two goes into inv_lsb; adding 1.5 * 2^23 rounds
  /// to an integer, half to even, and leaves the code in the low bits. Those of 1.5 * 2^23 are taken off the sum at its
  /// end.
  template <bool kClips>
  __device__ __forceinline__ void add_shifted_codes(std::int32_t weight, float inv_lsb) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float code = (__int_as_float(currents_[m][n][j]) - kShiftedOrigin) * inv_lsb;
          if constexpr (kClips) code = fminf(fmaxf(code, args_.lowest), args_.highest);
          add(sums_[m][n][j], weight, __float_as_int(code + kShiftedOrigin));
        }
      }
    }
  }

  __device__ __forceinline__ void add_codes(int slice, std::int32_t weight) {
    const std::int32_t lo = args_.slice[slice].lo;
    const float inv_lsb = args_.slice[slice].inv_lsb;
    if (args_.column_lo == nullptr) {
#pragma unroll
      for (int n = 0; n < kOutputTiles; ++n) {
        add_codes_of_column(n, 0, lo, inv_lsb, weight);
        add_codes_of_column(n, 1, lo, inv_lsb, weight);
      }
      return;
    }
    const int first_o = first_output(thread());
#pragma unroll
    for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
      for (int parity = 0; parity < 2; ++parity) {
        const std::int64_t column = column_index(slice, min(first_o + output_offset(n, parity), args_.outputs - 1));
        add_codes_of_column(n, parity, __ldg(args_.column_lo + column), __ldg(args_.column_inv_lsb + column), weight);
      }
    }
  }

  __device__ __forceinline__ void add_codes_of_column(int n, int parity, std::int32_t lo, float inv_lsb,
                                                      std::int32_t weight) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int j = parity; j < 4; j += 2) {
        add(sums_[m][n][j], weight, adc_code(current(m, n, j) - lo, inv_lsb, args_.code_min, args_.code_max));
      }
    }
  }

  /// Modulo 2^32: signed sums that leave it on the way come back.
  __device__ __forceinline__ static void add(Sum& sum, std::int32_t weight, std::int32_t value) {
    sum = static_cast<Sum>(static_cast<std::uint32_t>(sum) +
                           static_cast<std::uint32_t>(weight) * static_cast<std::uint32_t>(value));
  }

  // ---- results ----

  /// Output of element 0 of tile 0 of this lane; element j of tile n is output_offset(n, j) on.
  __device__ __forceinline__ int first_output(int id) const {
    const int line = first_line() + warp_line(id);
    return (kWords ? line / 2 : line) + id % 4 * 2;
  }
  __device__ __forceinline__ static int output_offset(int n, int j) { return n * 8 + j % 2; }

  /// Of an output in arrays [groups][outputs] and [groups][slices][outputs].
  __device__ __forceinline__ std::int64_t column_index(int o) const {
    return std::int64_t{group()} * args_.outputs + o;
  }
  __device__ __forceinline__ std::int64_t column_index(int slice, int o) const {
    return (std::int64_t{group()} * args_.slices + slice) * args_.outputs + o;
  }

  /// What is added to all results of a column.
  struct ColumnTerms {
    float scale = 0.0F;
    float lo_constant = 0.0F;
    std::int32_t weight_sum = 0;
  };

  __device__ __forceinline__ ColumnTerms terms_of(int slice, int o) const {
    ColumnTerms terms;
    terms.scale = args_.slice[slice].scale;
    if (args_.column_scale != nullptr) terms.scale = __ldg(args_.column_scale + column_index(slice, o));
    if (slice + 1 < args_.slices) return terms;
    terms.lo_constant = __ldg(args_.lo_constants + column_index(o));
    terms.weight_sum = __ldg(args_.weight_sums + column_index(o));
    return terms;
  }

  /// Adds the sums of a slice to the results, as T. Everything is read before anything is used, so that the block waits
  /// for memory once.
  template <typename T>
  __device__ __forceinline__ void end_slice(int slice) {
    const int id = thread();
    const int first_o = first_output(id);
    T* const y = static_cast<T*>(args_.y);
    T before[kRowTiles][kOutputTiles][4];
    ColumnTerms terms[kOutputTiles][2];
    std::int64_t first[kRowTiles][2];  // result of output 0
    bool inside[kRowTiles][2];
    const std::int64_t first_row_of_lane = first_row() + warp_row(id) + lane_of(id) / 4;
    const std::int64_t step = result_step(operands_);
    std::int32_t row_sums[kRowTiles][2];
    if (args_.weight_shift != 0) __syncwarp();  // those of other lanes
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = first_row_of_lane + m * 16 + half * 8;
        inside[m][half] = row < args_.rows;
        row_sums[m][half] = args_.weight_shift != 0 ? row_sums_.load(row_sum_place(id, m, half)) : 0;
        first[m][half] = first_result(operands_, args_, inside[m][half] ? row : 0);
      }
    }
#pragma unroll
    for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int o = first_o + output_offset(n, j);
          const bool wanted = slice > 0 && inside[m][j / 2] && o < args_.outputs;
          before[m][n][j] = wanted ? y[first[m][j / 2] + o * step] : T{0};
        }
      }
#pragma unroll
      for (int parity = 0; parity < 2; ++parity) {
        terms[n][parity] = terms_of(slice, min(first_o + output_offset(n, parity), args_.outputs - 1));
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
            Sum sum = sums_[m][n][j];
            if constexpr (kConverter == Converter::kShifted) add(sum, -1, args_.sum_bias);
            const T total = added(before[m][n][j], slice, terms[n][parity], sum, row_sums[m][half]);
            if (inside[m][half] && o < args_.outputs) y[first[m][half] + o * step] = total;
          }
        }
      }
    }
  }

  /// What is subtracted digitally: the input shift and the weight offset. `row_sum`: of the activations.
  __device__ __forceinline__ std::int64_t correction(const ColumnTerms& terms, std::int32_t row_sum) const {
    const std::int64_t applied = row_sum + std::int64_t{args_.input_shift} * args_.inputs;
    return -std::int64_t{args_.input_shift} * terms.weight_sum - args_.weight_shift * applied;
  }

  __device__ __forceinline__ std::int32_t added(std::int32_t before, int slice, const ColumnTerms& terms, Sum sum,
                                                std::int32_t row_sum) const {
    auto total = static_cast<std::uint32_t>(before);
    total += static_cast<std::uint32_t>(args_.slice[slice].weight) * static_cast<std::uint32_t>(sum);
    if (slice + 1 == args_.slices) total += static_cast<std::uint32_t>(correction(terms, row_sum));
    return static_cast<std::int32_t>(total);
  }

  __device__ __forceinline__ float added(float before, int slice, const ColumnTerms& terms, Sum sum,
                                         std::int32_t row_sum) const {
    float total = before + static_cast<float>(sum) * terms.scale;
    if (slice + 1 == args_.slices) {
      total = total + terms.lo_constant;
      total = total + static_cast<float>(correction(terms, row_sum));
    }
    return total;
  }

  const MvmArguments& args_;
  const Operands& operands_;
  SharedArray<std::uint8_t> activations_;  // [kBlockRows][kChunkBytes]
  SharedArray<std::int32_t> row_sums_;     // [warps][kBlockRows / 2]
  SharedArray<std::uint8_t> cells_;        // [kBlockLines][kChunkBytes]
  std::uint32_t a_[kRowTiles][kSteps][4];
  std::uint32_t b_[kLineTiles][kSteps][2];
  std::int32_t currents_[kRowTiles][kLineTiles][4];
  Sum sums_[kRowTiles][kOutputTiles][4];
};

}  // namespace cimq::kernels::cuda
