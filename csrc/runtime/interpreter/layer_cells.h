// A crossbar layer as cells and converters: what a tile's crossbar holds, the codes of its columns for a digit of an
// input vector, and what becomes of the codes. By the letter of docs/numbers.md, cell by cell.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/ir/tiling.h"
#include "kernels/noise/read_noise.h"
#include "kernels/plan/mvm_plan.h"
#include "runtime/steps/crossbar_tensors.h"

namespace cimq::runtime {

/// What a crossbar holds: conductances of a tile, [rows][columns], levels or 1/256 levels.
struct TileCells {
  compiler::isa::Region region;
  std::vector<std::int16_t> values;
};

/// An input vector, and which access of the layer it is.
struct AppliedVector {
  std::span<const std::uint8_t> x;  ///< raw bits, one per input of the group
  std::uint64_t access = 0;
};

/// One group of a layer on one chip.
class LayerCells {
 public:
  /// Throws Error for a machine on which a quantity that is converted lies in two tiles.
  LayerCells(const Hardware& hardware, const compiler::LayerTiling& tiling, const CrossbarTensors& tensors,
             std::int64_t group, std::int64_t groups);

  const kernels::MvmPlan& plan() const { return plan_; }
  TileCells program(const compiler::isa::Region& region) const;
  /// sums[column] += sum over digits [begin, end) of digit weight * code, for the tile's columns of all of the layer's.
  void multiply(const TileCells& tile, std::int64_t row_tile, const AppliedVector& vector, int begin, int end,
                std::span<std::int64_t> sums) const;
  /// Y of every output out of the sums of all columns; the form that fits plan().exact.
  void add_up(std::span<const std::int64_t> sums, std::span<std::int32_t> y) const;
  void add_up(std::span<const std::int64_t> sums, std::span<float> y) const;

 private:
  struct Column {
    std::int64_t output;
    int slice, polarity;
    bool reference;
  };
  /// Currents of a tile's columns for one digit, and their variances where accesses are noisy.
  struct Currents {
    std::vector<std::int64_t> values, variances;
  };

  Column column_of(std::int64_t column) const;
  std::uint32_t digit(std::uint8_t raw, int number) const;
  Currents currents(const TileCells& tile, const AppliedVector& vector, int digit_number) const;
  std::int64_t code(const Column& column, std::int64_t current, std::int64_t variance, const AppliedVector& vector,
                    std::int64_t row_tile, int digit_number) const;
  std::int64_t slice_sum(std::span<const std::int64_t> sums, std::int64_t output, int slice) const;
  std::int64_t correction(std::span<const std::int64_t> sums, std::int64_t output) const;

  kernels::MvmPlan plan_;
  std::int64_t columns_;                    // of the layer, the reference column included
  bool joint_;                              // the columns of a pair are converted together
  std::vector<std::int8_t> weight_;         // [outputs][inputs]
  std::vector<std::int64_t> weight_sums_;   // [outputs]
  std::vector<std::int16_t> conductances_;  // [n_w][polarities][outputs][inputs], where fractional
  std::optional<kernels::ColumnNoise> noise_;
};

}  // namespace cimq::runtime
