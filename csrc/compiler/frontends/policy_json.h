// policy.json: bits of every layer, and what it chooses of the machine, by name. The executor needs none of it; it must
// say the same as layers.json.
#pragma once

#include <string_view>

#include "compiler/ir/graph.h"

namespace cimq::compiler {

/// Checks that `text`, a policy as cimq.Policy saves it (or plain {"name": [w, a]}), names exactly the crossbar layers
/// of `graph` with their bits and choices. Throws Error naming the layer that differs, or the key that is not one of a
/// policy.
void check_policy(std::string_view text, const Graph& graph);

}  // namespace cimq::compiler
