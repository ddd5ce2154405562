// Matrix kernel of the crossbar MVM on the tile registers of AMX: digits as A tiles, cells as B tiles, currents in C
// tiles, and the converter on the C tiles of one block while the next is multiplied (amx_converter.h).
//
// A block is 2 x 2 C tiles: 32 digit rows by 32 outputs, or by 16 outputs whose int16 cells are two bytes (low
// unsigned, high with the sign; a current is low + 256 * high). Each of its A and B tiles is loaded once for two
// products, so that loads take half the time of the products. Its C tiles go to one of two buffers in the first-level
// cache; between the products of the next block the currents of the other buffer are converted, row by row, in the
// vector units that tile products leave idle: an out-of-order core runs both at once if neither comes in long runs.
//
// One shape of tiles serves all inputs (input_tiles()); digit rows beyond the last block of 32 are tiles with fewer
// rows. Included inside a target region of AVX-512 with VNNI.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/tile/amx_converter.h"
#include "kernels/cpu/tile/amx_tiles.h"
#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

static_assert(kMatrixRows == kTileRows && kLaneWidth * 4 == kTileBytes);

/// How cells and digits are multiplied.
enum class MatrixOperands { kBytes, kWords, kSignedDigitsWords };

/// int16 cells of a panel as two panels of int8 cells: the low bytes of all groups, then the high bytes. Groups that
/// only fill up the last matrix are zero.
inline void split_words(const TileArgs& args, InputTiles inputs, std::byte* low) {
  const std::int64_t lanes = args.width;
  std::byte* high = low + inputs.bytes() * lanes;
  for (std::int64_t group = 0; group < inputs.count * inputs.groups; ++group) {
    auto* __restrict to_low = reinterpret_cast<std::uint32_t*>(low) + group * lanes;
    auto* __restrict to_high = reinterpret_cast<std::uint32_t*>(high) + group * lanes;
    const auto* __restrict cells = static_cast<const std::uint32_t*>(args.cells) + 2 * group * lanes;
    const bool first = 2 * group < args.steps;
    const bool second = 2 * group + 1 < args.steps;
    for (std::int64_t o = 0; o < lanes; ++o) {
      const std::uint32_t a = first ? cells[o] : 0U;
      const std::uint32_t b = second ? cells[lanes + o] : 0U;
      const std::uint32_t low_a = (a & 0xFFU) | (a >> 8 & 0xFF00U);
      const std::uint32_t low_b = (b & 0xFFU) | (b >> 8 & 0xFF00U);
      const std::uint32_t high_a = (a >> 8 & 0xFFU) | (a >> 16 & 0xFF00U);
      const std::uint32_t high_b = (b >> 8 & 0xFFU) | (b >> 16 & 0xFF00U);
      to_low[o] = low_a | low_b << 16;
      to_high[o] = high_a | high_b << 16;
    }
  }
}

template <typename Tiles, MatrixOperands kOperands, Finish kFinish>
class MatrixRunner {
  static constexpr bool kWords = kOperands != MatrixOperands::kBytes;
  static constexpr int kOutputs = kWords ? kLaneWidth : kBlockLanes;  ///< of a block

 public:
  explicit MatrixRunner(const TileArgs& args)
      : args_(args),
        inputs_(input_tiles(kWords ? (args.steps + 1) / 2 : args.steps)),
        cells_(static_cast<const std::byte*>(args.cells)),
        row_bytes_(std::int64_t{args.width} * 4) {
    if constexpr (kWords) {
      auto* planes = static_cast<std::byte*>(args.scratch);
      split_words(args, inputs_, planes);
      cells_ = planes;
    }
  }

  void run() {
    const auto* digits = static_cast<const std::byte*>(args_.digits);
    int configured = 0;
    for (int row = 0; row < args_.row_count; row += kBlockRows) {
      const int count = std::min(kBlockRows, args_.row_count - row);
      if (count != configured) configure(count);
      configured = count;
      rows_ = &described_[row / kBlockRows % 2];  // the block before may still need its own
      describe_rows<kFinish>(args_, args_.rows + row, count, *rows_);
      digits_ = digits + row * inputs_.bytes();
      for (int first = 0; first < args_.width; first += kOutputs) run_block(first);
    }
    tiles_.release();
    if (pending_->rows != nullptr) convert(0, pending_->rows->count);
  }

 private:
  // C tiles 0..3 (row tile * 2 + column tile), A tiles 4 and 5, B tiles 6 and 7.
  void configure(int count) {
    TileConfig config;
    const auto depth = static_cast<std::uint16_t>(inputs_.groups * 4);
    for (std::size_t m = 0; m < 2; ++m) {
      const auto rows = static_cast<std::uint8_t>(std::clamp(count - static_cast<int>(m) * kTileRows, 0, kTileRows));
      for (std::size_t n = 0; n < 2; ++n) {
        config.rows[2 * m + n] = rows;
        config.row_bytes[2 * m + n] = rows > 0 ? kTileBytes : 0;
      }
      config.rows[4 + m] = rows;
      config.row_bytes[4 + m] = rows > 0 ? depth : std::uint16_t{0};
    }
    for (std::size_t n = 0; n < 2; ++n) {
      config.rows[6 + n] = static_cast<std::uint8_t>(inputs_.groups);
      config.row_bytes[6 + n] = kTileBytes;
    }
    tiles_.configure(config);
  }

  void run_block(int first) {
    Block& block = buffers_[next_];
    next_ ^= 1;
    block.first = first;
    block.columns = kWords || args_.width - first >= kBlockLanes ? 2 : 1;
    block.rows = rows_;
    const bool both_rows = rows_->count > kTileRows;
    if (block.columns == 2) {
      both_rows ? multiply<2, 2>(block) : multiply<1, 2>(block);
    } else {
      both_rows ? multiply<2, 1>(block) : multiply<1, 1>(block);
    }
    pending_ = &block;
  }

  /// The currents of a block; meanwhile those of the block before become codes.
  template <int kRowTiles, int kColumns>
  void multiply(Block& block) {
    const int waiting = pending_->rows != nullptr ? pending_->rows->count : 0;
    const int share = static_cast<int>((waiting + inputs_.count - 1) / inputs_.count);
    for_tiles<kRowTiles, kColumns>([&]<int kRow, int kColumn>() { tiles_.template zero<2 * kRow + kColumn>(); });
    // Copies: members would be read again around every tile instruction, which may write memory as compilers see it.
    const std::int64_t count = inputs_.count;
    const std::int64_t groups = inputs_.groups;
    const std::int64_t digit_stride = inputs_.bytes();
    const std::int64_t cell_stride = row_bytes_;
    const std::byte* digits = digits_;
    const std::byte* cells = cells_ + std::ptrdiff_t{block.first} * 4;
    const std::int64_t next_column = kWords ? digit_stride * args_.width : kTileBytes;
    int converted = 0;
    for (std::int64_t k = 0; k < count; ++k, digits += groups * 4, cells += groups * cell_stride) {
      tiles_.template load<4>(digits, digit_stride);
      tiles_.template load<6>(cells, cell_stride);
      if constexpr (kColumns == 2) tiles_.template load<7>(cells + next_column, cell_stride);
      if constexpr (kRowTiles == 2) tiles_.template load<5>(digits + kTileRows * digit_stride, digit_stride);
      for_tiles<kRowTiles, kColumns>([&]<int kRow, int kColumn>() {
        tiles_.template multiply<product(kColumn), 2 * kRow + kColumn, 4 + kRow, 6 + kColumn>();
      });
      const int end = std::min(waiting, converted + share);
      if (converted < end) convert(converted, end);
      converted = end;
    }
    for_tiles<kRowTiles, kColumns>([&]<int kRow, int kColumn>() {
      tiles_.template store<2 * kRow + kColumn>(block.currents[kRow * kTileRows] + kColumn * kLaneWidth,
                                                sizeof(block.currents[0]));
    });
  }

  template <int kRowTiles, int kColumns, typename Visit>
  [[gnu::always_inline]] static void for_tiles(const Visit& visit) {
    visit.template operator()<0, 0>();
    if constexpr (kColumns == 2) visit.template operator()<0, 1>();
    if constexpr (kRowTiles == 2) visit.template operator()<1, 0>();
    if constexpr (kRowTiles == 2 && kColumns == 2) visit.template operator()<1, 1>();
  }

  static constexpr TileProduct product(int column) {
    if (kOperands == MatrixOperands::kBytes) return TileProduct::kUnsignedSigned;
    if (kOperands == MatrixOperands::kWords) {
      return column == 0 ? TileProduct::kUnsignedUnsigned : TileProduct::kUnsignedSigned;
    }
    return column == 0 ? TileProduct::kSignedUnsigned : TileProduct::kSignedSigned;
  }

  void convert(int begin, int end) {
    if constexpr (kWords) {
      finish_rows<kFinish, 1, 2>(args_, *pending_, begin, end);
    } else if (pending_->columns == 2) {
      finish_rows<kFinish, 2, 1>(args_, *pending_, begin, end);
    } else {
      finish_rows<kFinish, 1, 1>(args_, *pending_, begin, end);
    }
  }

  const TileArgs& args_;
  InputTiles inputs_;
  const std::byte* cells_;
  std::int64_t row_bytes_;  ///< from a row of B tiles in memory to the next
  const std::byte* digits_ = nullptr;
  BlockRows* rows_ = nullptr;
  int next_ = 0;
  Block* pending_ = &buffers_[1];
  BlockRows described_[2];
  Block buffers_[2];
  [[no_unique_address]] Tiles tiles_;
};

template <typename Tiles, MatrixOperands kOperands, Finish kFinish>
void run_matrix(const TileArgs& args) {
  if (args.row_count > 0) MatrixRunner<Tiles, kOperands, kFinish>(args).run();
}

template <typename Tiles, MatrixOperands kOperands>
void run_matrix(const TileArgs& args) {
  switch (finish_of(args)) {
    case Finish::kCurrents:
      return run_matrix<Tiles, kOperands, Finish::kCurrents>(args);
    case Finish::kPlainCodes:
      return run_matrix<Tiles, kOperands, Finish::kPlainCodes>(args);
    case Finish::kCodes:
      return run_matrix<Tiles, kOperands, Finish::kCodes>(args);
    case Finish::kColumnCodes:
      return run_matrix<Tiles, kOperands, Finish::kColumnCodes>(args);
    case Finish::kWideCodes:
      return run_matrix<Tiles, kOperands, Finish::kWideCodes>(args);
    case Finish::kWideColumnCodes:
      return run_matrix<Tiles, kOperands, Finish::kWideColumnCodes>(args);
  }
}

template <typename Tiles>
void run_matrix_words(const TileArgs& args) {
  // Whole activations with a sign meet no converter.
  if (args.signed_digits) {
    return run_matrix<Tiles, MatrixOperands::kSignedDigitsWords, Finish::kCurrents>(args);
  }
  run_matrix<Tiles, MatrixOperands::kWords>(args);
}

template <typename Tiles>
MatrixKernels matrix_kernels() {
  return {run_matrix<Tiles, MatrixOperands::kBytes>, run_matrix_words<Tiles>};
}

}  // namespace
}  // namespace cimq::kernels::cpu
