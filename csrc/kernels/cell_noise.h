// Variation of programmed cells: which random word belongs to which cell, and what it does to the conductance.
//
// Key = seed. Counter = (block low 32 bits, block bits 32..47 | slice << 16 | purpose << 24, layer, chip), where
//   cell  = (output * inputs + input) * 2 + polarity      output: within the layer (all groups), input: within the
//   group block = cell >> 2, and word (cell & 3) of the four that Philox returns belongs to the cell.
// Polarity 1 is the negative column (or row) of a pair; the offset mapping uses polarity 0 only.
// Nothing about tiles, batches or threads enters: a chip is the same cells however it is computed.
#pragma once

#include <cstdint>
#include <memory>

#include "common/hardware.h"
#include "common/host_device.h"
#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/mvm_plan.h"

namespace cimq::kernels {

/// What a random word is for; each has its own stream.
enum class CellPurpose : std::uint32_t { kProgramming = 0 };

/// Uniform word of one cell.
CIMQ_HOST_DEVICE inline std::uint32_t cell_word(std::uint64_t seed, std::uint32_t chip, std::uint32_t layer, int slice,
                                                CellPurpose purpose, std::uint64_t cell) {
  const std::uint64_t block = cell >> 2;
  const std::uint32_t packed = static_cast<std::uint32_t>(block >> 32) | (static_cast<std::uint32_t>(slice) << 16) |
                               (static_cast<std::uint32_t>(purpose) << 24);
  return philox4x32({{static_cast<std::uint32_t>(block), packed, layer, chip}}, philox_key(seed)).word[cell & 3U];
}

/// Conductance in 1/256 level of a cell programmed to `level` whose variation is `sample` (1/256 level).
CIMQ_HOST_DEVICE inline std::int32_t noisy_conductance(std::int32_t level, std::int32_t sample) {
  const std::int32_t value = level * kConductanceUnit + sample;
  return value < 0 ? 0 : (value > kMaxConductance ? kMaxConductance : value);
}

/// Conductances of one layer's cells on one chip.
class CellNoise {
 public:
  /// Without variation it holds nothing, and conductance() must not be called.
  CellNoise(const Hardware& hardware, const MvmOptions& options);

  /// 1/256 level. @param output number within the layer, @param inputs inputs of the matrix
  std::int32_t conductance(std::int32_t level, std::int64_t output, std::int64_t input, std::int64_t inputs, int slice,
                           int polarity) const;
  /// Bound of conductance() for levels up to `level`.
  std::int32_t largest_conductance(std::int32_t level) const;

 private:
  std::uint64_t seed_;
  std::uint32_t chip_;
  std::uint32_t layer_;
  std::shared_ptr<const QuantileTable> programming_;
};

}  // namespace cimq::kernels
