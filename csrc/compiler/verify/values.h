// How many rows of a network's values are there, and of quantised inputs. Rows come in order, each once.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler::verify {

/// Rows [begin, end) of a value.
struct RowSpan {
  std::int64_t begin = 0, end = 0;
};

class Values {
 public:
  explicit Values(const Graph& graph);

  /// The next rows of a node's result. Throws Error (`where` begins it) for others.
  void produce(const Node& node, const RowSpan& rows, ProgramLine where);
  /// Throws Error (`where` begins it) unless the first `rows` rows of a node's result, or of the network's input, are
  /// there.
  void need(const std::string& value, std::int64_t rows, ProgramLine where) const;
  bool any(const std::string& value) const { return rows_.contains(value); }
  /// Throws Error naming a node of which rows are never computed.
  void check_complete(const Graph& graph) const;

  /// The next rows of the quantised input of node `of` in a register, or its first ones again.
  void quantise(const std::string& name, const RowSpan& rows, ProgramLine where);
  /// Throws Error (`where` begins it) unless the first `rows` rows are in the register.
  void need_quantised(const std::string& name, std::int64_t rows, ProgramLine where) const;

 private:
  std::unordered_map<std::string, std::int64_t> rows_;       // by value; not there: none
  std::unordered_map<std::string, std::int64_t> quantised_;  // by register
};

}  // namespace cimq::compiler::verify
