// What steps of crossbar layers share: counting what they take, and sharing their rows among threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/saturating.h"
#include "kernels/plan/mvm_plan.h"
#include "runtime/parallel.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {

/// Counts the passes over the cells of a layer, where a product is not one multiplication.
void count_passes(const StepContext& context, const compiler::Node& node, const kernels::MvmPlan& plan);

/// Counts what the layer takes on its machine, once its tensors are read, before any of it is: programmed cells, and
/// the passes.
void count_layer(const StepContext& context, const compiler::Node& node, const Hardware& hardware,
                 const kernels::MvmPlan& plan, std::int64_t groups);

/// Rows of the largest part that `split` makes.
inline std::int64_t rows_of_part(std::int64_t rows, int threads) { return (rows + threads - 1) / threads; }

/// Calls `work(begin, end)` on parts of [0, rows).
template <typename Work>
void split(std::int64_t rows, int threads, const Work& work) {
  const std::int64_t part = rows_of_part(rows, threads);
  parallel_for((rows + part - 1) / part, threads,
               [&](std::int64_t i) { work(i * part, std::min(rows, (i + 1) * part)); });
}

}  // namespace cimq::runtime
