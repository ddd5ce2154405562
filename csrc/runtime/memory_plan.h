// When values of a network are needed: decides what is freed, and how much one sample needs.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/ir/graph.h"

namespace cimq::runtime {

struct MemoryPlan {
  std::vector<std::vector<int>> freed_after;  ///< [node] values (node numbers) whose last use this node is
  std::vector<std::int64_t> live_elements;    ///< [node] of one sample while the node runs, its own result included
  std::size_t peak_node = 0;                  ///< where most is alive

  std::int64_t peak_elements() const { return live_elements.empty() ? 0 : live_elements[peak_node]; }
};

MemoryPlan plan_memory(const compiler::Graph& graph);

}  // namespace cimq::runtime
