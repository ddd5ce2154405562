// Voltage lost along the wires of an array, to first order, as a factor on every cell (docs/cells.md has the
// derivation).
//
// Row k of a tile counts from the converters, column j from the drivers. A cell of conductance g[k][j] acts as
//   g' = g / (1 + r_w * W + r_b * B)
//   W = sum over the columns q of the tile: (min(j, q) + 1) * g[k][q]
//   B = (k + 1) * g[k][j] + activity * sum over the other rows p of the tile: (min(k, p) + 1) * g[p][j]
// with r_w, r_b the resistance of one segment of word and bit line times the conductance of 1/256 level. W and the two
// parts of B are integers; the rest is double, one rounding per operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "common/host_device.h"
#include "common/rounding.h"
#include "kernels/cuda/stream.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels {

/// Constants of the formula.
struct IrDrop {
  double word = 0.0;  ///< r_w
  double bit = 0.0;   ///< r_b
  double activity = 1.0;
  bool any() const { return word > 0.0 || bit > 0.0; }
  static IrDrop of(const Hardware& hardware);
};

/// g'. @param row_sum W, @param own (k + 1) * g, @param column_sum the sum over the other rows
CIMQ_HOST_DEVICE inline std::int32_t attenuated(const IrDrop& drop, std::int32_t g, std::int64_t row_sum,
                                                std::int64_t own, std::int64_t column_sum) {
  const double column = static_cast<double>(own) + drop.activity * static_cast<double>(column_sum);
  const double lost = drop.word * static_cast<double>(row_sum) + drop.bit * column;
  return static_cast<std::int32_t>(round_half_even(static_cast<double>(g) / (1.0 + lost)));
}

/// Replaces g by g' in `cells`, [n_w][polarities][outputs][inputs] in 1/256 level.
void apply_ir_drop(const IrDrop& drop, const MvmPlan& plan, const Hardware& hardware, std::vector<std::int16_t>& cells);

namespace cuda {

/// Memory on the device for what lies between two kernels.
struct WorkMemory {
  void* data = nullptr;  ///< aligned to 8 bytes
  std::size_t bytes = 0;
};

/// Bytes that apply_ir_drop works in: at most `most`, but what the arrays below one another need together. 0 without
/// wires. With less than all arrays need, those side by side come one after the other.
std::size_t ir_drop_bytes(const IrDrop& drop, const MvmPlan& plan, const Hardware& hardware, std::int64_t groups,
                          std::size_t most = std::size_t{64} << 20);

/// The same as above on the current device, for `groups` matrices of one plan, which share no array: `cells`,
/// [n_w][polarities][groups * outputs][inputs], lie on the device.
void apply_ir_drop(const IrDrop& drop, const MvmPlan& plan, const Hardware& hardware, std::int64_t groups,
                   std::int16_t* cells, WorkMemory memory, Stream stream);

}  // namespace cuda

}  // namespace cimq::kernels
