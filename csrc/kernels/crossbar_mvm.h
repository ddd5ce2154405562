// Matrix-vector products on programmed crossbars: Y[b, o] = crossbar(x[b, :] . w[o, :]), docs/numbers.md.
//
// Operands: x is raw bits, one byte per activation: the unsigned value, or int8 two's complement when act_signed.
// w is [outputs, inputs] row-major in the narrow range of its width. Row b of x is access first_access + b of the
// layer, which read noise depends on. Results are int32 where plan.exact, else float32, and the same bits on every
// device and instruction set, for every batch split and thread count.
//
// A device programs an MvmProblem as its plan says (plan/mvm_plan.h) and runs batches against it: cpu::CrossbarMvm in
// cpu/mvm/. What all of them must equal is the reference below.
#pragma once

#include <cstdint>

#include "common/hardware.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels {

/// A matrix of weights to be programmed: the same for every device. Refers to hardware and weights.
struct MvmProblem {
  const Hardware& hardware;
  const std::int8_t* w;  ///< [outputs, inputs]
  std::int64_t outputs;
  std::int64_t inputs;
  MvmOptions options;

  MvmPlan plan() const { return make_mvm_plan(hardware, outputs, inputs, options); }
};

/// The specification as plain loops over tiles, digits and slices; the same results, slowly. x [batch, inputs], y
/// [batch, outputs]. Exactly one of the two forms fits a configuration (plan.exact); the other throws cimq::Error.
void crossbar_mvm_reference(const MvmProblem& problem, const std::uint8_t* x, std::int64_t batch, std::int32_t* y,
                            std::uint64_t first_access = 0);
void crossbar_mvm_reference(const MvmProblem& problem, const std::uint8_t* x, std::int64_t batch, float* y,
                            std::uint64_t first_access = 0);

}  // namespace cimq::kernels
