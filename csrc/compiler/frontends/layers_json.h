// layers.json -> Graph. The only way a graph comes into the compiler or the executor.
#pragma once

#include <string_view>

#include "compiler/ir/graph.h"
#include "compiler/ir/limits.h"

namespace cimq::compiler {

/// Parses and validates: schema and version, unique names, inputs that come earlier, known ops, attributes in range,
/// every shape equal to the one computed from the inputs, layer facts (outputs, inputs_per_output, invocations,
/// repeats) equal to what the geometry gives. Throws Error naming the node.
Graph read_layers(std::string_view text);

}  // namespace cimq::compiler
