// One executable node of a network. Steps are immutable after construction and may run on several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "runtime/budget.h"
#include "runtime/safetensors.h"

namespace cimq::runtime {

/// Where a crossbar step puts its raw result Y besides using it; the pointer that fits `exact` is set.
struct RawResult {
  std::int32_t* integers = nullptr;
  float* floats = nullptr;
};

/// How a step is run, apart from its operands.
struct StepRun {
  int threads = 1;                ///< may be used inside; the result does not depend on it
  std::int64_t first_sample = 0;  ///< number of the first sample within the batch of the call: read noise depends on it
};

class Step {
 public:
  Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  virtual ~Step() = default;

  /// Computes `batch` samples. Arrays are [batch, shape of the node] in C order; `raw` may be null and is used by
  /// crossbar steps only.
  virtual void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult* raw,
                   const StepRun& run) const = 0;
  /// Bound of the memory that run() takes for `batch` samples and `threads`, besides its operands and its result. A
  /// step whose run() allocates says so here: the executor counts it before it runs (may saturate,
  /// common/saturating.h).
  virtual std::uint64_t working_bytes(std::int64_t batch, int threads) const {
    static_cast<void>(batch);
    static_cast<void>(threads);
    return 0;
  }
  /// Crossbar steps: whether Y is int32.
  virtual bool exact() const { return true; }
};

/// What a step is built from. `weights` must hold the node's tensors with the shapes and types that the node implies.
struct StepContext {
  const compiler::Graph& graph;
  const Hardware& hardware;
  const Safetensors& weights;
  Budget& budget;  ///< counts what steps keep; tensor_of does so for tensors
};

/// Builds the step of `node`; throws Error naming the node where tensors are missing or do not fit.
std::unique_ptr<Step> make_step(const StepContext& context, const compiler::Node& node);

/// Whether there is a step for an operation: there must be one for every row of the operator table.
bool has_step(compiler::OpKind op);

/// Makes the step of one operation; throws Error naming the node where tensors are missing or do not fit.
using StepMaker = std::unique_ptr<Step> (*)(const StepContext& context, const compiler::Node& node);

/// The executor's part of a row of the operator table (compiler/ir/operators.h).
struct StepRow {
  compiler::OpKind op;
  StepMaker make;
};

// The steps that make_step chooses from, by subject; one file each.
std::span<const StepRow> dense_steps();
std::span<const StepRow> pooling_steps();
std::span<const StepRow> elementwise_steps();
std::span<const StepRow> binary_steps();
std::span<const StepRow> normalization_steps();
std::span<const StepRow> shape_steps();
std::span<const StepRow> resize_steps();
std::span<const StepRow> border_steps();
std::span<const StepRow> crossbar_matmul_steps();
std::unique_ptr<Step> make_crossbar_step(const StepContext& context, const compiler::Node& node);

/// Values of the tensor in `role`, counted in the budget; throws Error unless its shape is `shape` and, for floats,
/// every value is finite.
template <typename T>
std::vector<T> tensor_of(const StepContext& context, const compiler::Node& node, const char* role,
                         const compiler::Shape& shape);

}  // namespace cimq::runtime
