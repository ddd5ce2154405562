// When values of a network are needed: decides what is freed, and how much one sample needs at most.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/ir/graph.h"

namespace cimq::runtime {

struct MemoryPlan {
  std::vector<std::vector<int>> freed_after;  ///< [node] values (node numbers) whose last use this node is
  std::int64_t peak_elements = 0;             ///< largest sum of live values of one sample, working space included
};

MemoryPlan plan_memory(const compiler::Graph& graph);

}  // namespace cimq::runtime
