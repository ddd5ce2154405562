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

/// Number of a cell within its layer and slice.
CIMQ_HOST_DEVICE inline std::uint64_t cell_index(std::int64_t output, std::int64_t input, std::int64_t inputs,
                                                 int polarity) {
  return static_cast<std::uint64_t>(output * inputs + input) * 2U + static_cast<std::uint64_t>(polarity);
}

/// Uniform words of the four cells of a block.
CIMQ_HOST_DEVICE inline PhiloxCounter cell_words(std::uint64_t seed, std::uint32_t chip, std::uint32_t layer, int slice,
                                                 CellPurpose purpose, std::uint64_t block) {
  const std::uint32_t packed = static_cast<std::uint32_t>(block >> 32) | (static_cast<std::uint32_t>(slice) << 16) |
                               (static_cast<std::uint32_t>(purpose) << 24);
  return philox4x32({{static_cast<std::uint32_t>(block), packed, layer, chip}}, philox_key(seed));
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

  /// The cells of one output and slice in ascending order: the same conductances, every block of words drawn once.
  class Row {
   public:
    Row(const CellNoise& noise, std::int64_t output, std::int64_t inputs, int slice)
        : noise_(noise), output_(output), inputs_(inputs), slice_(slice) {}
    std::int32_t conductance(std::int32_t level, std::int64_t input, int polarity);

   private:
    const CellNoise& noise_;
    std::int64_t output_;
    std::int64_t inputs_;
    int slice_;
    std::uint64_t block_ = ~std::uint64_t{0};
    PhiloxCounter words_{};
  };

 private:
  std::uint64_t seed_;
  std::uint32_t chip_;
  std::uint32_t layer_;
  std::shared_ptr<const QuantileTable> programming_;
};

}  // namespace cimq::kernels
