// What the crossbar kernels are told about a programmed matrix: numbers and pointers, by value. Made by mvm_layer.cpp.
#pragma once

#include <cstdint>

namespace cimq::kernels::cuda {

// ---- the shape of a block of the kernel ----
constexpr int kBlockRows = 64;    ///< batch rows
constexpr int kBlockLines = 64;   ///< lines of cells
constexpr int kWarpLines = 32;    ///< of them in one warp, which takes half of the rows: four warps
constexpr int kChunkBytes = 256;  ///< inputs that are in registers at once
constexpr int kStepBytes = 32;    ///< inputs of one matrix instruction
constexpr int kBlockThreads = 128;
constexpr int kSharedBytes = (kBlockRows + kBlockLines) * kChunkBytes;

/// Bits of 1.5 * 2^23: with a small integer added they are those of the sum of both.
constexpr std::uint32_t kShiftedBits = 0x4B400000U;
constexpr float kShiftedOrigin = 12582912.0F;

/// How currents become codes.
enum class Converter {
  kNone,     ///< ideal: the current itself
  kShifted,  ///< currents as bits of floats, digits left in their place: no conversion instruction
  kGeneral,  ///< adc_code, any range
};

/// One input digit: ((bits >> shift) ^ flip) & mask for every byte of four; it counts `weight`.
struct DigitArguments {
  std::uint32_t mask;
  std::uint32_t flip;
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

struct MvmArguments {
  // Operands
  const std::uint8_t* x;  ///< [batch, inputs]
  void* y;                ///< [chips, batch, outputs] int32 or float
  std::int64_t batch;
  std::int32_t inputs;
  std::int32_t outputs;
  bool x_aligned;  ///< every 16-byte piece of a tile's row lies at a multiple of 16 bytes

  // Cells: [chips][planes][tiles][lines][tile_bytes]
  const std::uint8_t* cells;
  std::int64_t chip_bytes;
  std::int32_t lines;  ///< a multiple of kBlockLines
  std::int32_t tiles;
  std::int32_t tile_inputs;
  std::int32_t tile_bytes;  ///< tile_inputs, padded to a multiple of kStepBytes
  std::int32_t tile_chunks;

  // Digits and slices; plane = slice * columns + column
  std::int32_t digits;
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
  const std::int32_t* column_lo;  ///< [slices][outputs], null where a slice has one range
  const float* column_inv_lsb;    ///< likewise
  const float* column_scale;      ///< likewise

  // Results
  bool exact;  ///< int32, else float
  bool act_signed;
  std::int32_t input_shift;
  std::int32_t weight_shift;
  const std::int32_t* weight_sums;  ///< [outputs]
  const float* lo_constants;        ///< [outputs]
};

}  // namespace cimq::kernels::cuda
