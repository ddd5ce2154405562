#include "compiler/plan/row_order.h"

#include "compiler/ir/rows.h"

namespace cimq::compiler {
namespace {

// Entries of tables: of networks that are larger than any that is in use, rows are asked for.
constexpr std::size_t kMostTabled = std::size_t{1} << 20;

}  // namespace

RowOrder::RowOrder(const Graph& graph)
    : graph_(graph), values_(graph.nodes.size()), quantized_(graph.nodes.size()), done_(2 * graph.nodes.size()) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    Value& value = values_[i];
    value.crossbar = node.crossbar.has_value();
    value.in_rows = comes_in_rows(graph, node);
    value.rows = rows_of(node.shape);
    if (value.crossbar) {
      quantized_[i].in_rows = true;
      quantized_[i].rows = rows_of(graph.shape_of(node.inputs[0]));
      add_need(i, false, unit_of(i, true), 0);
    }
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] < 0) continue;
      // Of a layer the first input is quantised, and a second one written to its crossbars.
      add_need(i, value.crossbar && k == 0, unit_of(static_cast<std::size_t>(node.inputs[k]), false), k);
    }
  }
}

void RowOrder::add_need(std::size_t node, bool quantized, Unit unit, std::size_t input) {
  Value& value = quantized ? quantized_[node] : values_[node];
  Need need{unit, input, {}};
  const auto rows = static_cast<std::size_t>(value.rows);
  // The quantised input has the rows of the input.
  if (!quantized && rows <= kMostTabled - tabled_) {
    tabled_ += rows;
    need.table.reserve(rows);
    for (std::int64_t end = 1; end <= value.rows; ++end) {
      need.table.push_back(rows_needed(graph_, graph_.nodes[node], input, end));
    }
  }
  value.needs.push_back(std::move(need));
}

std::int64_t RowOrder::needed(Unit unit, const Need& need, std::int64_t end) const {
  if (unit % 2 == 1) return end;
  if (!need.table.empty()) return need.table[static_cast<std::size_t>(end - 1)];
  return rows_needed(graph_, graph_.nodes[unit / 2], need.input, end);
}

}  // namespace cimq::compiler
