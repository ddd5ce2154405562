// What a crossbar layer reads from weights.safetensors, and how its kernels are to multiply.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/ir/graph.h"
#include "kernels/plan/mvm_plan.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {

struct CrossbarTensors {
  std::int64_t outputs = 0;         ///< of all groups
  std::vector<std::int8_t> weight;  ///< [outputs, inputs of one]
  float x_scale = 1.0F;
  std::vector<float> multiplier, bias;  ///< [outputs]
  kernels::MvmOptions options;          ///< of the first group
};

/// Of a layer whose crossbars hold its second input.
struct OperandTensors {
  float x_scale = 1.0F, w_scale = 1.0F, multiplier = 1.0F;
  kernels::MvmOptions options;  ///< of the first matrix
};

// Both throw Error naming the node where tensors are missing or do not fit.
CrossbarTensors read_crossbar_tensors(const StepContext& context, const compiler::Node& node);
OperandTensors read_operand_tensors(const StepContext& context, const compiler::Node& node);

}  // namespace cimq::runtime
