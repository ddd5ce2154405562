#include "compiler/verify/values.h"

#include "common/error.h"
#include "compiler/ir/rows.h"

namespace cimq::compiler::verify {

Values::Values(const Graph& graph) { rows_[graph.input_name] = rows_of(graph.input_shape); }

void Values::produce(const Node& node, const RowSpan& rows, ProgramLine where) {
  std::int64_t& done = rows_[node.name];
  check(done < rows_of(node.shape), where, ": '", node.name, "' is computed twice");
  check(done == rows.begin, where, ": the next row of '", node.name, "' is ", done, ", got ", rows.begin);
  done = rows.end;
}

void Values::need(const std::string& value, std::int64_t rows, ProgramLine where) const {
  const auto found = rows_.find(value);
  check(found != rows_.end(), where, ": '", value, "' is read before it is computed");
  check(found->second >= rows, where, ": needs the first ", rows, " rows of '", value, "', of which ", found->second,
        " are computed");
}

void Values::check_complete(const Graph& graph) const {
  for (const Node& node : graph.nodes) {
    const auto found = rows_.find(node.name);
    check(found != rows_.end(), "program.jsonl: the node '", node.name, "' is never computed");
    check(found->second == rows_of(node.shape), "program.jsonl: of the node '", node.name, "' rows from ",
          found->second, " on are never computed");
  }
}

void Values::quantise(const std::string& name, const RowSpan& rows, ProgramLine where) {
  std::int64_t& done = quantised_[name];
  check(rows.begin == 0 || rows.begin == done, where, ": the next row of '", name, "' is ", done, ", got ", rows.begin);
  done = rows.end;
}

void Values::need_quantised(const std::string& name, std::int64_t rows, ProgramLine where) const {
  const auto found = quantised_.find(name);
  const std::int64_t done = found == quantised_.end() ? 0 : found->second;
  check(done >= rows, where, ": needs the first ", rows, " rows of '", name, "', of which ", done, " are quantised");
}

}  // namespace cimq::compiler::verify
