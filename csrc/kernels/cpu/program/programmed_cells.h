// programmed_cells on the processor.
#pragma once

#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels::cpu {

class ProgrammedCells {
 public:
  /// @param w  [outputs, inputs]
  ProgrammedCells(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options, const std::int8_t* w);

  /// [outputs, inputs] of one slice; polarity 1 is the negative column or row of a pair.
  const std::int16_t* plane(int slice, int polarity) const;
  /// [n_w][polarities][outputs][inputs]
  const std::vector<std::int16_t>& values() const { return values_; }

 private:
  int polarities_;
  std::size_t plane_size_;
  std::vector<std::int16_t> values_;
};

}  // namespace cimq::kernels::cpu
