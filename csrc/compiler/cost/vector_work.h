// How many operations of a vector lane a node of the network takes.
#pragma once

#include <cstdint>

#include "compiler/ir/graph.h"

namespace cimq::compiler {

/// Operations of a node that no crossbar computes (VEC), for one sample: a multiply-add of an fp32 convolution or
/// linear layer, an element of a pooling window, else one for each element of the larger of input and result, whatever
/// the function. Arrangement (flatten, reshape, slice, pad, cat, transpose, expand, flip) and constants are a matter of
/// addresses and take none. 0 for a crossbar layer: its digital work is that of QUANT, SHADD and REQ.
/// Throws Error beyond 62 bits.
std::int64_t vector_operations(const Graph& graph, const Node& node);

}  // namespace cimq::compiler
