// A block of an integer product: 64 rows against 64 outputs, four warps of 32 x 32 on int8 tensor cores.
//
// Inputs pass in chunks of 128 bytes, eight pieces of 16 channels each; the next chunk is copied while one is
// multiplied. A piece of a row is 16 channels of one tap of its window, so that patches are never written anywhere:
// what lies in the padding is copied as zeros.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/integer_arguments.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/shared_memory.h"

namespace cimq::kernels::cuda {

constexpr int kProductRows = 64;
constexpr int kProductLines = 64;
constexpr int kProductThreads = 128;
constexpr int kProductPieces = 8;  ///< of a chunk
constexpr int kProductChunk = kProductPieces * kPieceBytes;
constexpr int kProductStage = (kProductRows + kProductLines) * kProductChunk;
constexpr int kProductBytes = 2 * kProductStage;

template <bool kSignedX>
class IntegerBlock {
 public:
  __device__ __forceinline__ explicit IntegerBlock(const ProductArguments& arguments)
      : args_(arguments), bytes_(shared_memory<std::uint8_t>(0, kProductBytes)) {
    int block = static_cast<int>(blockIdx.x);
    const int lines = block % args_.line_blocks;  // neighbours share their rows
    block /= args_.line_blocks;
    group_ = block / args_.row_blocks;
    first_row_ = (block - group_ * args_.row_blocks) * kProductRows;
    first_line_ = lines * kProductLines;
#pragma unroll
    for (int j = 0; j < kCopies; ++j) {
      const int row = first_row_ + copied_line() + j * kLinesAtOnce;
      const bool inside = row < args_.rows;
      const int image = inside ? row / args_.positions : 0;
      const int position = inside ? row - image * args_.positions : 0;
      const int oy = position / args_.out_width;
      // Rows beyond the last lie in the padding as a whole.
      window_y_[j] = inside ? oy * args_.stride_y - args_.pad_top : -kFarAway;
      window_x_[j] = (position - oy * args_.out_width) * args_.stride_x - args_.pad_left;
      window_[j] = args_.x + group_ * args_.x_group + image * args_.x_image;
    }
  }

  __device__ __forceinline__ void run() {
    const int chunks = (args_.pieces + kProductPieces - 1) / kProductPieces;
    begin_copies(0);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      if (chunk + 1 < chunks) {
        begin_copies(chunk + 1);
        wait_for_copies<1>();
      } else {
        wait_for_copies<0>();
      }
      __syncthreads();
      multiply(chunk % 2 * kProductStage);
      __syncthreads();  // the chunk after the next may come
    }
  }

  /// Calls body(index in y, sum) for the results of this thread.
  template <typename Body>
  __device__ __forceinline__ void for_each_result(const Body& body) const {
    const int lane = thread() % 32;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row_ + warp_row() + m * 16 + half * 8 + lane / 4;
        if (row >= args_.rows) continue;
        const int image = row / args_.positions;
        const std::int64_t first =
            group_ * args_.y_group + image * args_.y_image + (row - image * args_.positions) * args_.y_position;
#pragma unroll
        for (int n = 0; n < kLineTiles; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int line = first_line_ + warp_line() + n * 8 + lane % 4 * 2 + j;
            if (line < args_.outputs) body(first + line * args_.y_output, sums_[m][n][2 * half + j]);
          }
        }
      }
    }
  }

 private:
  static constexpr int kRowTiles = 2;   ///< of 16 rows, per warp
  static constexpr int kLineTiles = 4;  ///< of 8 lines, per warp
  static constexpr int kLinesAtOnce = kProductThreads / kProductPieces;
  static constexpr int kCopies = kProductRows / kLinesAtOnce;  ///< of each operand, per thread and chunk
  static constexpr int kFarAway = 1 << 30;

  __device__ __forceinline__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ static int warp_row() { return thread() / 64 * 32; }
  __device__ __forceinline__ static int warp_line() { return thread() / 32 % 2 * 32; }
  __device__ __forceinline__ static int copied_line() { return thread() / kProductPieces; }
  __device__ __forceinline__ static int copied_piece() { return thread() % kProductPieces; }

  /// Pieces change places within a line, so that eight lines' pieces of one column lie in all banks.
  __device__ __forceinline__ static int place(int line, int piece) {
    return line * kProductChunk + (piece ^ (line & 7)) * kPieceBytes;
  }

  __device__ __forceinline__ void begin_copies(int chunk) const {
    const int piece = chunk * kProductPieces + copied_piece();
    const bool exists = piece < args_.pieces;
    const int tap = piece / args_.pieces_of_tap;
    const int tap_y = tap / args_.kernel_w;
    const int y = tap_y * args_.dilation_y;
    const int x = (tap - tap_y * args_.kernel_w) * args_.dilation_x;
    const std::int64_t channel = (piece - tap * args_.pieces_of_tap) * kPieceBytes;
    const int to = chunk % 2 * kProductStage + place(copied_line(), copied_piece());
    const std::int64_t pitch = std::int64_t{args_.pieces} * kPieceBytes;
#pragma unroll
    for (int j = 0; j < kCopies; ++j) {
      const int at_y = window_y_[j] + y;
      const int at_x = window_x_[j] + x;
      const bool inside = exists && at_y >= 0 && at_y < args_.height && at_x >= 0 && at_x < args_.width;
      const std::int64_t pixel = inside ? at_y * args_.x_row + at_x * args_.x_pixel + channel : 0;
      copy_async(bytes_, to + j * kLinesAtOnce * kProductChunk, window_[j] + pixel, inside);
      const int line = first_line_ + copied_line() + j * kLinesAtOnce;
      const bool is_line = exists && line < args_.outputs;
      const std::int64_t from = group_ * args_.w_group + (is_line ? line * pitch + piece * kPieceBytes : 0);
      copy_async(bytes_, to + kProductRows * kProductChunk + j * kLinesAtOnce * kProductChunk, args_.w + from, is_line);
    }
    commit_copies();
  }

  __device__ __forceinline__ void multiply(int stage) {
    const int lane = thread() % 32;
    const int rows = stage + place(warp_row() + lane % 16, lane / 16);
    const int lines =
        stage + kProductRows * kProductChunk + place(warp_line() + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
    for (int k = 0; k < kProductPieces / 2; ++k) {
      // Two pieces on: bits of the place that nothing else of it touches.
      const int step = k * 2 * kPieceBytes;
      std::uint32_t a[kRowTiles][4];
      std::uint32_t b[kLineTiles][2];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) load_matrices(a[m], bytes_, (rows ^ step) + m * 16 * kProductChunk);
#pragma unroll
      for (int n = 0; n < kLineTiles; n += 2) {
        std::uint32_t two[4];
        load_matrices(two, bytes_, (lines ^ step) + n * 8 * kProductChunk);
        b[n][0] = two[0];
        b[n][1] = two[1];
        b[n + 1][0] = two[2];
        b[n + 1][1] = two[3];
      }
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int n = 0; n < kLineTiles; ++n) multiply_add<kSignedX, true>(sums_[m][n], a[m], b[n], sums_[m][n]);
      }
    }
  }

  const ProductArguments& args_;
  SharedArray<std::uint8_t> bytes_;  // [2][rows, then lines][kProductChunk]
  std::int32_t group_;
  std::int32_t first_row_;
  std::int32_t first_line_;
  std::int32_t window_y_[kCopies];
  std::int32_t window_x_[kCopies];
  const std::uint8_t* window_[kCopies];
  std::int32_t sums_[kRowTiles][kLineTiles][4] = {};
};

}  // namespace cimq::kernels::cuda
