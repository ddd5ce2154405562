// Steps whose images are in channel-last order, [height, width, channels].
#pragma once

#include <memory>

#include "compiler/ir/graph.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {

/// Whether there is such a step for a node that needs another one than its row of the operator table: a convolution of
/// one group on crossbars whose product is exact, or max_pool2d.
bool has_channels_last_step(const Hardware& network, const compiler::Node& node);

/// Builds it. `context.graph` and `node` are those with channels first; raw results are given in that order.
std::unique_ptr<Step> make_channels_last_step(const StepContext& context, const compiler::Node& node);

/// That of max_pool2d, which pooling.cpp has.
std::unique_ptr<Step> make_channels_last_max_pool(const StepContext& context, const compiler::Node& node);

}  // namespace cimq::runtime
