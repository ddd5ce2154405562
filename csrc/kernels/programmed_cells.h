// What the cells of a matrix conduct on one chip after every effect that stays (programming, stuck-at faults, drift,
// wires): [n_w][polarities][outputs][inputs] in 1/256 level. Read noise comes later, at the columns
// (noise/read_noise.h).
#pragma once

#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "kernels/cuda/stream.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/ir_drop.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels {

/// As plain loops, cell by cell and tile by tile. @param w  [outputs, inputs]
std::vector<std::int16_t> programmed_cells_reference(const Hardware& hardware, const MvmPlan& plan,
                                                     const MvmOptions& options, const std::int8_t* w);

namespace cuda {

/// The same on the current device, for `groups` matrices of one plan: their outputs are numbered through from
/// options.first_output on, and they share no array. The result is [n_w][polarities][groups * outputs][inputs].
/// `tables` are those of the hardware (CellTables::view); w, the result, `memory` (ir_drop_bytes) and what `tables`
/// points to lie on the device.
void programmed_cells(const Hardware& hardware, const CellTablesView& tables, const MvmPlan& plan, std::int64_t groups,
                      const MvmOptions& options, const std::int8_t* w, std::int16_t* cells, WorkMemory memory,
                      Stream stream);

/// Cells that are exactly their level, in 1/256 level: `base` for level 0. w and the result, [n_w][polarities][outputs]
/// [inputs], lie on the device.
void certain_cells(const MvmPlan& plan, std::int32_t base, const std::int8_t* w, std::int32_t* cells, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
