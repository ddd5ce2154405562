// What programmed_levels is asked for, on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/hardware.h"
#include "kernels/plan/mvm_plan.h"
#include "ops/support/crossbar_args.h"

namespace cimq::ops {

struct LevelsRequest {
  CrossbarArgs args;
  Hardware machine;  ///< without what does not matter to cells: converter and read noise
  kernels::MvmPlan plan;
  std::int32_t base;  ///< what level 0 conducts, in 1/256 level
};

/// Checks all but the device and the values. Throws ValueError.
LevelsRequest parse_levels(const char* op, const at::Tensor& w_q, const CrossbarCall& call);

}  // namespace cimq::ops
