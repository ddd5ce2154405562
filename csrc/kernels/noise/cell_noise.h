// Variation of programmed cells: which random word belongs to which cell, and what it does to the conductance.
//
// Key = seed. Counter = (block low 32 bits, block bits 32..47 | slice << 16 | purpose << 24, layer, chip), where
//   cell  = (output * inputs + input) * 2 + polarity      output: within the layer (all groups), input: within the
//   group block = cell >> 2, and word (cell & 3) of the four that Philox returns belongs to the cell.
// Polarity 1 is the negative column (or row) of a pair; the offset mapping uses polarity 0 only.
// Nothing about tiles, batches or threads enters: a chip is the same cells however it is computed.
//
// Order of effects: programmed -> stuck -> drift (and then wires, ir_drop.h). Everything is in 1/256 level and
// absolute: what level 0 conducts is part of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/hardware.h"
#include "common/host_device.h"
#include "common/philox.h"
#include "common/quantile_table.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels {

/// What a random word is for; each has its own stream.
enum class CellPurpose : std::uint32_t { kProgramming = 0, kStuck = 1, kDrift = 2, kReadKey = 3 };

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

CIMQ_HOST_DEVICE inline std::int32_t clamped_conductance(std::int32_t value) {
  return value < 0 ? 0 : (value > kMaxConductance ? kMaxConductance : value);
}

/// Fraction bits of the factor by which a cell has drifted.
constexpr int kDriftFractionBits = 14;

/// conductance * factor, rounded half up; both at least 0.
CIMQ_HOST_DEVICE inline std::int32_t drifted_conductance(std::int32_t conductance, std::int32_t factor) {
  const std::int64_t product = static_cast<std::int64_t>(conductance) * factor;
  return clamped_conductance(
      static_cast<std::int32_t>((product + (1 << (kDriftFractionBits - 1))) >> kDriftFractionBits));
}

/// CellTables as plain pointers, which any device can follow.
struct CellTablesView {
  const std::int32_t* nodes;    ///< null where every level is certain
  const std::int32_t* offsets;  ///< [levels]; 0: the level is certain
  const std::int32_t* fixed;    ///< [levels]
  const std::int32_t* drift;    ///< nodes of the factor; null where cells do not drift, or all alike
  std::int32_t base;            ///< what a cell that is stuck at HRS conducts
  std::int32_t top;             ///< at LRS
  std::uint64_t stuck_hrs;      ///< a word below: HRS
  std::uint64_t stuck_lrs;      ///< else a word below: LRS
};

/// Conductance of a cell of `level` from its three random words; words of streams that are not in use are ignored.
CIMQ_HOST_DEVICE inline std::int32_t cell_conductance(const CellTablesView& tables, std::int32_t level,
                                                      std::uint32_t programming, std::uint32_t stuck,
                                                      std::uint32_t drift) {
  if (stuck < tables.stuck_hrs) return tables.base;
  if (stuck < tables.stuck_lrs) return tables.top;
  std::int32_t value = tables.fixed[level];
  if (tables.offsets[level] != 0) value += quantile_sample(tables.nodes + tables.offsets[level], programming);
  value = clamped_conductance(value);
  return tables.drift == nullptr ? value : drifted_conductance(value, quantile_sample(tables.drift, drift));
}

/// Word of a stream that is not in use: no stuck cell is that unlikely.
constexpr std::uint32_t kUnusedCellWord = 0xffffffffU;

/// What the cells of a hardware are sampled from: per level a fixed part and a quantile table of the deviation from it.
/// Cells of all layers and chips share it.
class CellTables {
 public:
  explicit CellTables(const Hardware& hardware);
  /// The tables of `hardware`; built once for machines with the same cells.
  static std::shared_ptr<const CellTables> of(const Hardware& hardware);

  bool programming_varies() const { return !nodes_.empty(); }
  bool stuck() const { return stuck_lrs_ > 0; }
  bool drift_varies() const { return !drift_.empty(); }
  /// What the level conducts where nothing differs from the description.
  std::int32_t nominal(std::int32_t level) const { return base_ + level * kConductanceUnit; }
  std::int32_t base() const { return base_; }

  CellTablesView view() const {
    return {nodes_.empty() ? nullptr : nodes_.data(),
            offsets_.data(),
            fixed_.data(),
            drift_.empty() ? nullptr : drift_[0].nodes().data(),
            base_,
            top_,
            stuck_hrs_,
            stuck_lrs_};
  }
  std::int32_t conductance(std::int32_t level, std::uint32_t programming, std::uint32_t stuck,
                           std::uint32_t drift) const {
    return cell_conductance(view(), level, programming, stuck, drift);
  }
  /// Tables of all levels, one behind another; the first is that of levels which are certain: zero.
  const std::vector<std::int32_t>& nodes() const { return nodes_; }
  /// Where in nodes() the table of each level begins.
  const std::vector<std::int32_t>& offsets() const { return offsets_; }
  /// What the sample of each level is added to.
  const std::vector<std::int32_t>& fixed() const { return fixed_; }
  /// Nodes of the factor of drift; empty where cells do not drift, or all alike.
  const std::vector<std::int32_t>& drift_nodes() const {
    static const std::vector<std::int32_t> kNone;
    return drift_.empty() ? kNone : drift_[0].nodes();
  }
  /// Bound of conductance() for levels up to `level`.
  std::int32_t largest(std::int32_t level) const;

 private:
  std::int32_t base_ = 0;                        ///< level 0
  std::int32_t top_ = 0;                         ///< the top level of the cell
  std::uint64_t stuck_hrs_ = 0, stuck_lrs_ = 0;  ///< a word below the first: HRS; below the second: LRS
  std::vector<std::int32_t> fixed_;              ///< [levels]
  std::vector<std::int32_t> nodes_;              ///< see nodes(); empty where every level is certain
  std::vector<std::int32_t> offsets_;            ///< [levels]; levels may share a table
  std::vector<QuantileTable> drift_;             ///< none or one: the factor in 2^-kDriftFractionBits
};

/// Conductances of one layer's cells on one chip, before the wires.
class CellNoise {
 public:
  CellNoise(const Hardware& hardware, const MvmOptions& options);

  const CellTables& tables() const { return *tables_; }
  std::uint64_t seed() const { return seed_; }
  std::uint32_t chip() const { return chip_; }
  std::uint32_t layer() const { return layer_; }

  /// 1/256 level. @param output number within the layer, @param inputs inputs of the matrix
  std::int32_t conductance(std::int32_t level, std::int64_t output, std::int64_t input, std::int64_t inputs, int slice,
                           int polarity) const;

  /// The cells of one output and slice in ascending order: the same conductances, every block of words drawn once.
  class Row {
   public:
    Row(const CellNoise& noise, std::int64_t output, std::int64_t inputs, int slice)
        : noise_(noise), tables_(noise.tables_->view()), output_(output), inputs_(inputs), slice_(slice) {}
    std::int32_t conductance(std::int32_t level, std::int64_t input, int polarity) {
      const std::uint64_t cell = cell_index(output_, input, inputs_, polarity);
      if (cell >> 2 != block_) draw(cell >> 2);
      const auto word = static_cast<std::size_t>(cell & 3U);
      return cell_conductance(tables_, level, programming_.word[word], stuck_.word[word], drift_.word[word]);
    }

   private:
    void draw(std::uint64_t block);

    const CellNoise& noise_;
    CellTablesView tables_;
    std::int64_t output_;
    std::int64_t inputs_;
    int slice_;
    std::uint64_t block_ = ~std::uint64_t{0};
    PhiloxCounter programming_{}, stuck_{}, drift_{};
  };

 private:
  PhiloxCounter words(CellPurpose purpose, int slice, std::uint64_t block, bool used) const;

  std::uint64_t seed_;
  std::uint32_t chip_;
  std::uint32_t layer_;
  std::shared_ptr<const CellTables> tables_;
};

}  // namespace cimq::kernels
