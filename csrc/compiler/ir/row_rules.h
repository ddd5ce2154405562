// Which rows of its inputs a node needs for the first rows of its result: the functions that rows of the operator table
// name. Rows are those of rows_of (rows.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "compiler/ir/graph.h"

namespace cimq::compiler::row_rules {

/// Rows of input `input` that rows [0, end) of the result need, at least 1; nothing for a node that is not computed in
/// parts.
using Needed = std::optional<std::int64_t>;

Needed whole(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);  // never in parts
Needed same(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);   // row by row
Needed broadcast(const Graph& graph, const Node& node, std::size_t input,
                 std::int64_t end);                                                        // one row for all, or same
Needed window(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);  // convolutions, pooling
Needed linear(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);
Needed slice(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);
Needed pad(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);
Needed cat(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);
Needed along_dim(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);  // softmax
Needed layer_norm(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);

}  // namespace cimq::compiler::row_rules
