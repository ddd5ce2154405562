// layers.json -> Graph. The only way a graph comes into the compiler or the executor.
#pragma once

#include <string_view>

#include "compiler/ir/graph.h"

namespace cimq::compiler {

/// Limits that keep a hostile file from asking for absurd memory; far above what networks need.
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;  // of one value, per sample
inline constexpr std::size_t kMaxNodes = 1 << 16;
inline constexpr std::int64_t kMaxExtent = std::int64_t{1} << 16;  // of a kernel, stride, padding, group count

/// Parses and validates: schema and version, unique names, inputs that come earlier, known ops, attributes in range,
/// every shape equal to the one computed from the inputs, layer facts (outputs, inputs_per_output, invocations,
/// repeats) equal to what the geometry gives. Throws Error naming the node.
Graph read_layers(std::string_view text);

}  // namespace cimq::compiler
