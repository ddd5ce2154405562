// The inner loop of the crossbar MVM: digits of many inputs against the cells of one row tile of one weight slice,
// with the converter at the end. One implementation per instruction set, all the same bits.
//
// Cells of a tile lie as [steps][width][4 bytes]: a step is four rows of int8, two rows of int16 or 32 rows of single
// bits, so that one 32-bit lane holds what one dot-product or bit-count instruction adds up. Digits of a row lie as
// [steps][4 bytes] in the same order. Single-bit cells that are differences of a pair take two such lines per step:
// [steps][2][width][4 bytes], the positive bits, then the negative.
#pragma once

#include <cstdint>

#include "kernels/cpu/random/cell_sampler.h"
#include "kernels/cpu/random/column_noise.h"

namespace cimq::kernels::cpu {

constexpr int kPanelWidth = 64;  ///< outputs of a panel: what a kernel keeps in registers, at most
constexpr int kLaneWidth = 16;   ///< panels are padded to a multiple of this

/// One input digit of one batch row.
struct TileRow {
  std::int32_t output_row;  ///< row of the batch block: where its codes are added
  std::int32_t shift;       ///< the digit counts 2^shift ...
  std::int32_t negative;    ///< ... times -1 if set (top digit of two's complement)
  std::int32_t digit_sum;   ///< sum of the digits of the tile
};

struct TileArgs {
  const void* cells;  ///< as above, 64-byte aligned
  std::int64_t steps;
  int width;           ///< 16, 32, 48 or 64
  const void* digits;  ///< row r at digits + r * steps * 4 bytes: uint8, int16 or bits
  const TileRow* rows;
  int row_count;
  std::int32_t* sums;  ///< [output rows][width], codes times digit weights are added (mod 2^32)
  bool convert;        ///< false: code = I
  bool negative;       ///< subtract the codes: the second column of a pair converted on its own
  float inv_lsb;
  std::int32_t code_min;
  std::int32_t code_max;
  std::int32_t lo;           ///< subtracted from the current, in its units
  std::int32_t cell_bias;    ///< was subtracted from every cell, to fit int8
  bool pairs;                ///< bits only: two lines of cells per step
  std::int32_t max_product;  ///< bound of |digit * stored cell|
  // For sum tables only, whose digits are one byte per four rows (see SumTables):
  std::int32_t min_cell;  ///< bounds of the stored cells, min_cell <= 0 <= max_cell
  std::int32_t max_cell;
  bool clips;  ///< false: no current of the tile reaches beyond code_min..code_max
  /// Null, or [width] in place of lo and inv_lsb: every column has a range of its own.
  const std::int32_t* column_lo;
  const float* column_inv_lsb;
  void* scratch;       ///< sum tables: row_count * kScratchPerRow bytes; matrices of int16: InputTiles::scratch_bytes()
  bool signed_digits;  ///< matrices only: digits are int8
};

using TileKernel = void (*)(const TileArgs&);

/// The same for single-bit digits, by tables of the sums of four cells: much faster where many digit rows meet the same
/// cells. Cells lie as above. Digits are one byte per four rows, 8 * (bits of the four rows, first row lowest), and lie
/// as [blocks of kDigitBlock digit rows][ceil(rows / 4)][kDigitBlock]. Null where an instruction set has none.
constexpr int kDigitBlock = 8;
struct SumTables {
  TileKernel bytes = nullptr;  ///< int8 cells with 4 * (max_cell - min_cell) <= 255; current - lo must fit int16
  TileKernel words = nullptr;  ///< int16 cells with 4 * (max_cell - min_cell) <= 65535
};
constexpr std::int64_t kScratchPerRow = 128;

/// The same by an instruction that multiplies two small matrices: sixteen digit rows by sixteen outputs, up to sixteen
/// groups of four inputs at once. Cells lie as above, and may be read up to kMatrixReadsBeyond bytes beyond a tile.
/// Digits are bytes whatever the cells are, in rows of input_tiles(groups).bytes(), with zeros beyond the inputs.
/// Ranges per column as for sum tables. Null where an instruction set has none.
struct MatrixKernels {
  TileKernel bytes = nullptr;  ///< int8 cells
  TileKernel words = nullptr;  ///< int16 cells
};
constexpr int kMatrixRows = 16;
constexpr std::int64_t kMatrixReadsBeyond = (kMatrixRows - 1) * kPanelWidth * 4;

/// Groups of four inputs cut into matrices of the same height, so that one shape serves all: as few as can be, and
/// fewer groups more than there are than there are matrices.
struct InputTiles {
  std::int64_t count;
  std::int64_t groups;  ///< of one matrix
  std::int64_t bytes() const { return count * groups * 4; }
  /// Memory for the int16 cells of a panel as bytes, low and high.
  std::int64_t scratch_bytes() const { return 2 * bytes() * kPanelWidth; }
};
constexpr InputTiles input_tiles(std::int64_t groups) {
  const std::int64_t count = (groups + kMatrixRows - 1) / kMatrixRows;
  return {count, (groups + count - 1) / count};
}

constexpr int kTableBytes = 32 * 1024;  ///< of the tables in use, on the stack: the first-level cache

/// Converters whose columns have ranges of their own: what tile kernels leave out then.
struct ColumnArgs {
  const std::int32_t* currents;  ///< [row_count][width]; anything where there is no output
  int width;                     ///< 16, 32, 48 or 64
  const TileRow* rows;           ///< whose sums the codes of a line of currents are added to, and with which weight
  int row_count;
  std::int32_t* sums;      ///< as in TileArgs
  bool negative;           ///< as in TileArgs
  const std::int32_t* lo;  ///< [width], subtracted from the current, in its units
  const float* inv_lsb;    ///< [width]
  std::int32_t code_min;
  std::int32_t code_max;
};

using ColumnConverter = void (*)(const ColumnArgs&);

/// The implementations of one instruction set.
struct TileKernels {
  TileKernel bytes = nullptr;  ///< uint8 digits, int8 cells
  TileKernel words = nullptr;  ///< int16 digits, int16 cells
  TileKernel bits = nullptr;   ///< single-bit digits and cells
  ColumnConverter columns = nullptr;
  // What not every instruction set has:
  SumTables tables = {};
  MatrixKernels matrix = {};
  CellSampler sampler = nullptr;     ///< null: cells are sampled one by one
  ColumnNoiseAdder noise = nullptr;  ///< null: column by column
  bool fast_bits = false;            ///< `bits` beats `bytes`: single-bit cells are packed for it
  bool fast_products = false;        ///< `bytes` beats float32 products of the same layer
};

}  // namespace cimq::kernels::cpu
