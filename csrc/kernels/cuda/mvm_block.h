// A block of the crossbar product: 64 batch rows against 64 lines of cells, four warps of 32 x 32.
//
// Time is a list of stages, each a chunk of at most 256 inputs: per plane (slice, column of a pair), row tile and,
// where a tile has several chunks, digit. A stage's bytes come into shared memory by asynchronous copies while the one
// before is computed, and from there into registers, raw activations and cells alike. All digits of a chunk are then
// taken from the same registers: one logical operation per four activations, and no further access of any memory.
// Currents stay in the accumulators of the tensor cores until the tile ends, where the converter makes codes of them;
// codes are added up, weighted, in registers too. Only the results of a slice leave the block.
//
// Registers of a thread: activations 2 x 8 x 4, cells 4 x 8 x 2, accumulators 2 x 4 x 4, sums the same: 192.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/mvm_operands.h"
#include "kernels/cuda/mvm_places.h"
#include "kernels/cuda/mvm_reads.h"
#include "kernels/cuda/shared_memory.h"

namespace cimq::kernels::cuda {

/// Epilogue: what becomes of the currents.
///   kCells, currents, wide, start_of(slice, digit)   of MvmAccumulators
///   kDigitsInPlace                  digits stay where they are in their bytes
///   kAddsActivations                row sums of the activations are made where the layer has a weight shift
///   begin()                         before the first stage, all threads
///   convert(stage, digit)           a digit's currents are whole
///   end_tile(stage), end_slice(operands, row sums, slice)    all threads
template <typename Epilogue, typename Operands>
class MvmBlock {
 public:
  static constexpr int kSteps = kChunkBytes / kStepBytes;  ///< matrix instructions per chunk
  static constexpr Cells kCells = Epilogue::kCells;

  /// `results`: what the epilogue wants beside the arguments.
  template <typename... Results>
  __device__ __forceinline__ MvmBlock(const MvmArguments& arguments, const Operands& operands,
                                      const Results&... results)
      : args_(arguments),
        operands_(operands),
        activations_(shared_memory<std::uint8_t>(0, kBlockRows * kChunkBytes)),
        row_sums_(shared_memory<std::int32_t>((kBlockRows + kBlockLines) * kChunkBytes, kRowSums)),
        cells_(shared_memory<std::uint8_t>(kBlockRows * kChunkBytes, kBlockLines * kChunkBytes)),
        epilogue_(arguments, results...) {}

  __device__ __forceinline__ void run() {
    Stage stage;
    begin_copies(stage);
    epilogue_.begin();
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
    const int line = this_thread() / 16;
    const int piece = this_thread() % 16;
    if (piece < pieces) {
      const int offset = stage.chunk * kChunkBytes + piece * 16;
      const int to = place(line, piece);
      const std::int64_t plane = std::int64_t{stage.slice * args_.columns + stage.column} * args_.tiles + stage.tile;
      const std::uint8_t* cells = args_.cells +
                                  (std::int64_t{this_chip()} * args_.groups + this_group()) * args_.matrix_bytes +
                                  (plane * args_.lines + first_line(args_) + line) * args_.tile_bytes + offset;
      const int first = stage.tile * args_.tile_inputs;
      const int end = min(args_.inputs, first + args_.tile_inputs);
      const std::int64_t first_row_of_thread = first_row(args_) + line;
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
    const int id = this_thread();
    const int lane = id % 32;
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
    if (Epilogue::kAddsActivations && args_.weight_shift != 0 && stage.slice == 0 && stage.column == 0 &&
        stage.digit == 0) {
      add_activations(steps, stage.tile == 0 && stage.chunk == 0);
    }
    if (args_.flip != 0) flip_activations();
    const int digits_begin = args_.tile_chunks > 1 ? stage.digit : 0;
    const int digits_end = args_.tile_chunks > 1 ? stage.digit + 1 : args_.digits;
    for (int i = digits_begin; i < digits_end; ++i) {
      const DigitArguments& digit = args_.digit[i];
      if (first) {
        multiply_step<true>(digit, 0, epilogue_.start_of(stage.slice, digit));
      } else {
        multiply_step<false>(digit, 0, 0);
      }
      if (steps == kSteps) {
        multiply<true>(digit, steps);
      } else {
        multiply<false>(digit, steps);
      }
      if (last) epilogue_.convert(stage, i);
    }
    const bool tile_ends = last && digits_end == args_.digits;
    if (!tile_ends) return;
    epilogue_.end_tile(stage);
    if (stage.tile + 1 < args_.tiles || stage.column + 1 < args_.columns) return;
    epilogue_.end_slice(operands_, row_sums_, stage.slice);
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

  __device__ __forceinline__ static std::uint32_t digits_of(std::uint32_t four, const DigitArguments& digit) {
    const std::uint32_t bits = Epilogue::kDigitsInPlace ? four : four >> digit.shift;
    return bits & digit.mask;
  }

  /// The steps of a chunk after its first.
  template <bool kWhole>
  __device__ __forceinline__ void multiply(const DigitArguments& digit, int steps) {
#pragma unroll
    for (int k = 1; k < kSteps; ++k) {
      if (!kWhole && k >= steps) break;
      multiply_step<false>(digit, k, 0);
    }
  }

  /// @param start  where kStarts: what the currents start from, in place of what they are
  template <bool kStarts>
  __device__ __forceinline__ void multiply_step(const DigitArguments& digit, int k, std::int32_t start) {
    const std::int32_t four[4] = {start, start, start, start};
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      std::uint32_t digits[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) digits[j] = digits_of(a_[m][k][j], digit);
      if constexpr (kCells == Cells::kReads) multiply_variances<kStarts>(m, digits, k);
      constexpr int kCurrentTiles = kCells == Cells::kReads ? kLineTiles / 2 : kLineTiles;
#pragma unroll
      for (int n = 0; n < kCurrentTiles; ++n) {
        std::int32_t (&currents)[4] = epilogue_.currents[m][n];
        if constexpr (kStarts) {
          multiply_tile(currents, digits, n, k, four);
        } else {
          multiply_tile(currents, digits, n, k, currents);
        }
      }
    }
  }

  __device__ __forceinline__ void multiply_tile(std::int32_t (&currents)[4], const std::uint32_t (&digits)[4], int n,
                                                int k, const std::int32_t (&before)[4]) {
    if constexpr (kCells == Cells::kBytes) {
      multiply_add<false, true>(currents, digits, b_[n][k], before);
    } else if (n / (kLineTiles / lines_of(kCells)) % 2 == 0) {
      multiply_add<false, true>(currents, digits, b_[n][k], before);
    } else {
      multiply_add<false, false>(currents, digits, b_[n][k], before);  // low bytes
    }
  }

  /// Cells::kReads: squares of the digits times the variances, high bytes in tile 2 and low bytes in tile 3.
  template <bool kStarts>
  __device__ __forceinline__ void multiply_variances(int m, const std::uint32_t (&digits)[4], int k) {
    const std::int32_t zeros[4] = {0, 0, 0, 0};
    std::int32_t (&high)[4] = epilogue_.currents[m][2];
    std::int32_t (&low)[4] = epilogue_.currents[m][3];
    std::uint32_t squares[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) squares[j] = args_.read.squares ? squares_of<false>(digits[j]) : digits[j];
    if constexpr (kStarts) {
      multiply_tile(high, squares, 2, k, zeros);
      multiply_tile(low, squares, 3, k, zeros);
    } else {
      multiply_tile(high, squares, 2, k, high);
      multiply_tile(low, squares, 3, k, low);
    }
    if (!args_.read.wide) return;
#pragma unroll
    for (int j = 0; j < 4; ++j) squares[j] = squares_of<true>(digits[j]);
    multiply_tile(high, squares, 3, k, high);
    std::int32_t (&wide)[4] = epilogue_.wide.of[m];
    if constexpr (kStarts) {
      multiply_tile(wide, squares, 2, k, zeros);
    } else {
      multiply_tile(wide, squares, 2, k, wide);
    }
  }

  /// Sums of the activations of each row, for the offset mapping: a product with ones.
  /// They wait in shared memory, as registers are short.
  __device__ __forceinline__ void add_activations(int steps, bool stage_is_first) {
    const int id = this_thread();
    const std::uint32_t ones[2] = {0x01010101U, 0x01010101U};
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      std::int32_t sums[4] = {0, 0, 0, 0};
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        if (k >= steps) break;
        if (args_.act_signed) {
          multiply_add<true, true>(sums, a_[m][k], ones, sums);
        } else {
          multiply_add<false, true>(sums, a_[m][k], ones, sums);
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

  const MvmArguments& args_;
  const Operands& operands_;
  SharedArray<std::uint8_t> activations_;  // [kBlockRows][kChunkBytes]
  SharedArray<std::int32_t> row_sums_;     // [warps][kBlockRows / 2]
  SharedArray<std::uint8_t> cells_;        // [kBlockLines][kChunkBytes]
  std::uint32_t a_[kRowTiles][kSteps][4];
  std::uint32_t b_[kLineTiles][kSteps][2];
  Epilogue epilogue_;
};

}  // namespace cimq::kernels::cuda
