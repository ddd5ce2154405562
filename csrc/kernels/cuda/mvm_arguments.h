// What the crossbar kernels are told about a programmed matrix: numbers and pointers, by value. Made by mvm_layer.cpp.
#pragma once

#include <cstdint>

#include "common/mapping.h"

namespace cimq::kernels::cuda {

// ---- the shape of a block of the kernel ----
constexpr int kBlockRows = 64;    ///< batch rows
constexpr int kBlockLines = 64;   ///< lines of cells
constexpr int kWarpLines = 32;    ///< of them in one warp, which takes half of the rows: four warps
constexpr int kChunkBytes = 256;  ///< inputs that are in registers at once
constexpr int kStepBytes = 32;    ///< inputs of one matrix instruction
constexpr int kBlockThreads = 128;
constexpr int kRowSums = kBlockThreads / 32 * (kBlockRows / 2);
constexpr int kSharedBytes = (kBlockRows + kBlockLines) * kChunkBytes + kRowSums * 4;
constexpr int kReadKeyWords = 3;
constexpr int kReadKeyBytes = kReadKeyWords * kBlockRows * 4;

/// Bits of 1.5 * 2^23: with a small integer added they are those of the sum of both.
constexpr std::uint32_t kShiftedBits = 0x4B400000U;
constexpr float kShiftedOrigin = 12582912.0F;

/// What lies in the lines of a warp's outputs.
enum class Cells {
  kBytes,  ///< 8 bits
  kWords,  ///< 16 bits, the high bytes of all outputs before the low bytes
  kReads,  ///< words, and behind them the variances of what reading adds, in the same way
};
constexpr int lines_of(Cells cells) { return cells == Cells::kBytes ? 1 : cells == Cells::kWords ? 2 : 4; }
constexpr int outputs_of_warp(Cells cells) { return kWarpLines / lines_of(cells); }
/// Shared memory that a kernel takes for them beside its own.
constexpr int read_key_bytes(Cells cells) { return cells == Cells::kReads ? kReadKeyBytes : 0; }

/// How currents become codes.
enum class Converter {
  kNone,     ///< ideal: the current itself
  kShifted,  ///< currents as bits of floats, digits left in their place: no conversion instruction
  kGeneral,  ///< adc_code, any range
};

/// One input digit: (bits >> shift) & mask for every byte of four; it counts `weight`.
struct DigitArguments {
  std::uint32_t mask;
  std::int32_t shift;
  std::int32_t weight;
  float scale;         ///< kShifted: 2^-(place of the digit in its byte), what its current is too large by
  std::int32_t place;  ///< kShifted: the place itself
};

/// One weight slice; MvmPlan's SlicePlan with `lo` in units of the current.
struct SliceArguments {
  std::int32_t lo;
  float inv_lsb;
  float scale;
  std::int32_t weight;
};

constexpr int kMaxDigits = 8;
constexpr int kMaxSlices = 8;

/// Read noise (kernels/noise/read_noise.h) of the accesses of one call.
struct ReadArguments {
  const std::int32_t* nodes;  ///< of the table of z
  std::uint64_t seed;
  std::uint64_t first_access;
  std::int64_t first_output;  ///< of group 0, within the layer
  std::uint32_t first_chip;
  std::uint32_t layer;
  std::int32_t sample_bits;
  bool squares;  ///< digits have several bits: they are not their own squares
  bool wide;     ///< and their squares more than 8
};

struct MvmArguments {
  void* y;            ///< int32 or float; where which result lies is the operands' (mvm_operands.h)
  std::int64_t rows;  ///< of activations
  std::int32_t inputs;
  std::int32_t outputs;  ///< of a group
  std::int32_t groups;   ///< matrices of the same plan: the groups of a convolution

  // Cells: [chips][groups][planes][tiles][lines][tile_bytes]
  const std::uint8_t* cells;
  std::int64_t matrix_bytes;  ///< of one group of one chip
  std::int32_t lines;         ///< a multiple of kBlockLines
  std::int32_t tiles;
  std::int32_t tile_inputs;
  std::int32_t tile_bytes;  ///< tile_inputs, padded to a multiple of kStepBytes
  std::int32_t tile_chunks;

  // Digits and slices; plane = slice * columns + column
  std::int32_t digits;
  std::uint32_t flip;  ///< of every activation's bits, before digits are taken
  std::int32_t slices;
  std::int32_t columns;  ///< of a pair that are converted one by one: 2, else 1; the second counts negative
  DigitArguments digit[kMaxDigits];
  SliceArguments slice[kMaxSlices];

  // Converter
  float lowest;  ///< code_min and code_max
  float highest;
  std::int32_t code_min;
  std::int32_t code_max;
  bool clips;                     ///< whether a current can lie beyond the codes
  std::int32_t sum_bias;          ///< kShifted: what the float bits of the codes add to C_s, modulo 2^32
  const std::int32_t* column_lo;  ///< [groups][slices][outputs], null where a slice has one range
  const float* column_inv_lsb;    ///< likewise
  const float* column_scale;      ///< likewise

  // Results
  bool exact;  ///< int32, else float
  bool act_signed;
  std::int32_t input_shift;
  std::int32_t weight_shift;
  const std::int32_t* weight_sums;  ///< [groups][outputs]
  const float* lo_constants;        ///< [groups][outputs]

  ReadArguments read;  ///< Cells::kReads
};

/// How the cells of a matrix follow from its weights.
struct PackArguments {
  const std::int8_t* w;              ///< [outputs, inputs]
  const std::int16_t* conductances;  ///< [slices][polarities][outputs][inputs], or null: levels
  Mapping mapping;
  std::int32_t cell_bits;
  std::int32_t weight_bits;
  std::int32_t polarities;
  std::int32_t cancelled_base;  ///< taken off conductances that are no differences of a pair
  bool digital;                 ///< cells are the weights themselves
  bool pair;                    ///< the second cell of a weight is subtracted from the first
  Cells cells;
  std::int32_t variance;  ///< Cells::kReads: of every cell; 0: its own, of `read_shift`
  std::int32_t read_shift;
};

/// Rows of activations that lie in memory: x [rows, inputs], y [chips, rows, outputs].
struct MatrixArguments {
  const std::uint8_t* x;
  bool aligned;  ///< every 16-byte piece of a tile's row lies at a multiple of 16 bytes
};

/// Rows that lie in memory, other ones for every group: x [groups, rows, inputs].
struct GroupedRows {
  MatrixArguments first;  ///< those of group 0
};

/// One input of a convolution: channel within its group, and where it lies from the origin of a window (padding taken
/// off).
struct alignas(16) Tap {
  std::int32_t channel;
  std::int32_t y;
  std::int32_t x;
  std::int32_t unused;
};

/// Rows that are patches of images: x [images, channels, height, width], y [chips, images, groups * outputs,
/// positions]; row = image * positions + position.
struct PatchArguments {
  const std::uint8_t* x;
  const Tap* taps;  ///< [inputs]
  std::int32_t images;
  std::int32_t channels;
  std::int32_t group_channels;
  std::int32_t height;
  std::int32_t width;
  std::int32_t out_width;
  std::int32_t positions;
  std::int32_t stride_y;
  std::int32_t stride_x;
};

}  // namespace cimq::kernels::cuda
