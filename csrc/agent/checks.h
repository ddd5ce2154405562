// What the agent refuses. Free of torch.
#pragma once

#include <string>
#include <vector>

#include "agent/reinforce.h"

namespace cimq::agent {

void check_masks(const Masks& masks);
void check_options(const ReinforceOptions& options);
/// `table` must have the shape of `masks` and finite values; `what` names it in the error.
void check_table(const HeadTable& table, const Masks& masks, const std::string& what);
void check_batch(const std::vector<Actions>& actions, const std::vector<double>& rewards, const Masks& masks);
void check_state(const ReinforceState& state, const Masks& masks);

}  // namespace cimq::agent
