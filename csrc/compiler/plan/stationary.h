// Which tiles of a network stay in their crossbars, how large the pool is through which the others pass, and of which
// layers there are copies.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "compiler/cost/rounds.h"
#include "compiler/plan/choose.h"
#include "compiler/plan/memory.h"

namespace cimq::compiler {

struct StationaryPlan {
  std::uint64_t time_ps = 0;  ///< of one batch, layers in series
  std::int64_t writes = 0;    ///< of one batch
  std::int64_t pool = 0;
  std::vector<std::int64_t> resident;  ///< by layer: crossbars that stay
  std::vector<std::int64_t> copies;    ///< by layer

  /// Less time, then fewer writes.
  bool better_than(const StationaryPlan& other) const;
};

/// The plan for layers with the copies that they say; `crossbars`: no value for no limit. Each layer alone fits:
/// tiles * copies is at most `crossbars`, or copies is 1. Throws Error for more than kMaxCrossbars crossbars without a
/// limit.
StationaryPlan plan_stationary(PlanMemory& memory, std::span<const LayerLoad> loads,
                               const std::optional<std::int64_t>& crossbars);

/// Chooses the copies too, whatever the loads say. By kGreedy and kLatency never slower than without copies; by
/// kThroughput and kBalanced the slowest layer decides. Without a limit layers take at most kMaxCopied crossbars
/// together.
StationaryPlan plan_copies(PlanMemory& memory, std::span<const LayerLoad> loads,
                           const std::optional<std::int64_t>& crossbars, CopyRule rule);

/// The same for loads without copies, of which plan_stationary gave `without`.
StationaryPlan plan_copies(PlanMemory& memory, std::span<const LayerLoad> loads,
                           const std::optional<std::int64_t>& crossbars, CopyRule rule, const StationaryPlan& without);

/// Copies by layer where all layers stay that may, and come in rows, so that layers overlap; nothing where there are
/// too few crossbars for that.
std::optional<std::vector<std::int64_t>> copies_in_rows(PlanMemory& memory, std::span<const LayerLoad> loads,
                                                        std::span<const LayerRows> rows,
                                                        const std::optional<std::int64_t>& crossbars, CopyRule rule);

}  // namespace cimq::compiler
