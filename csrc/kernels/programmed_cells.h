// What the cells of a matrix conduct on one chip after every effect that stays (programming, stuck-at faults, drift,
// wires): [n_w][polarities][outputs][inputs] in 1/256 level. Read noise comes later, at the columns
// (noise/read_noise.h).
#pragma once

#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "kernels/cuda/stream.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels {

/// As plain loops, cell by cell and tile by tile. @param w  [outputs, inputs]
std::vector<std::int16_t> programmed_cells_reference(const Hardware& hardware, const MvmPlan& plan,
                                                     const MvmOptions& options, const std::int8_t* w);

namespace cuda {

/// The same for machines without wire resistance (Error otherwise), on the current device. `tables` are those of the
/// hardware (CellTables::view), `w` and the result lie on the device, and so does what `tables` points to.
void programmed_cells(const Hardware& hardware, const CellTablesView& tables, const MvmPlan& plan,
                      const MvmOptions& options, const std::int8_t* w, std::int16_t* cells, Stream stream);

/// Cells that are exactly their level, in 1/256 level: `base` for level 0. w and the result, [n_w][polarities][outputs]
/// [inputs], lie on the device.
void certain_cells(const MvmPlan& plan, std::int32_t base, const std::int8_t* w, std::int32_t* cells, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
