// The choice of one option for each layer whose times add up to least, and what bounds it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "compiler/plan/options.h"

namespace cimq::compiler {

/// Number of the option of each layer; nothing where even the first ones take more crossbars than there are.
using Choice = std::optional<std::vector<std::size_t>>;

/// Whether the first options of all layers fit.
bool any_fits(std::span<const OptionsView> layers, std::int64_t crossbars);

/// The sum of the layers' times is least: layer by layer over (crossbars, time) that nothing beats, those left out of
/// which no completion can be better than the best that is known.
Choice choose_latency(std::span<const OptionsView> layers, std::int64_t crossbars);

/// Those options of a layer that lie on the lower hull of (crossbars, time): time falls less and less per crossbar.
LayerOptions lower_hull(OptionsView options);

/// No choice has a smaller sum of times. `hulls`: of every layer, not empty; all first options fit.
std::uint64_t least_sum_bound(std::span<const OptionsView> hulls, std::int64_t crossbars);

}  // namespace cimq::compiler
