// Rows of values: what is computed, and handed on, at once where layers overlap in time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "compiler/ir/graph.h"

namespace cimq::compiler {

/// The dimension that counts rows: H of [C, H, W], N of [N, F]; none for other shapes, which are one row.
std::optional<std::size_t> row_dimension(const Shape& shape);
std::int64_t rows_of(const Shape& shape);
/// A value is [blocks][rows][row length] in memory: a row has a part in every block.
struct RowLayout {
  std::int64_t blocks = 1, rows = 1, length = 1;
};
RowLayout row_layout(const Shape& shape);

/// Whether rows of the node's result can be computed by themselves.
bool comes_in_rows(const Graph& graph, const Node& node);
/// Rows [0, result) of an input that rows [0, end) of the node's result need; all of them for a node that does not come
/// in rows.
std::int64_t rows_needed(const Graph& graph, const Node& node, std::size_t input, std::int64_t end);

/// Input vectors of one group for a row of a crossbar layer's result.
std::int64_t vectors_per_row(const Node& node);

}  // namespace cimq::compiler
