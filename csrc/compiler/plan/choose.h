// Shares crossbars out among layers: an option for each, together no more than there are. Integers throughout; of equal
// choices the first.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "compiler/plan/least_sum.h"
#include "compiler/plan/options.h"

namespace cimq::compiler {

/// By what copies of layers are chosen; kAny: whatever gives the fastest program.
enum class CopyRule { kNone, kGreedy, kThroughput, kBalanced, kLatency, kAny };
/// "none", "greedy", "throughput", "balanced", "latency", "any". Throws Error for another name.
CopyRule copy_rule_named(std::string_view name);
std::string_view name_of(CopyRule rule);

/// The least time that the slowest layer can take; nothing where not all layers fit.
std::optional<std::uint64_t> least_slowest(std::span<const OptionsView> layers, std::int64_t crossbars);

/// The slowest layer takes its next option, again and again; one whose next does not fit keeps what it has.
Choice choose_greedy(std::span<const OptionsView> layers, std::int64_t crossbars);

/// The slowest layer is as fast as can be (bisection over times); among such choices the sum of times is least.
Choice choose_throughput(std::span<const OptionsView> layers, std::int64_t crossbars);

/// The sum of times is least among choices of which the slowest layer takes at most half as long again as it must.
Choice choose_balanced(std::span<const OptionsView> layers, std::int64_t crossbars);

/// By a rule other than kNone and kAny.
Choice choose(CopyRule rule, std::span<const OptionsView> layers, std::int64_t crossbars);

}  // namespace cimq::compiler
