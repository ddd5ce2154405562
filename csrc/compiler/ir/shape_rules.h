// Shapes of results from those of inputs, without the batch: the functions that rows of the operator table name. Each
// throws Error naming the node where its inputs or attributes do not fit.
#pragma once

#include "compiler/ir/graph.h"

namespace cimq::compiler::shape_rules {

Shape same(const Graph& graph, const Node& node);             // one input
Shape stated(const Graph& graph, const Node& node);           // node.shape: no inputs, tensors of this shape (runtime)
Shape broadcast(const Graph& graph, const Node& node);        // two inputs of one rank; a dimension of 1 is repeated
Shape per_channel(const Graph& graph, const Node& node);      // one input with at least one dimension, the channels
Shape convolution(const Graph& graph, const Node& node);      // outputs from node.shape
Shape linear(const Graph& graph, const Node& node);           // outputs from node.shape
Shape matmul(const Graph& graph, const Node& node);           // [..., m, k] and [..., k, n] of one rank -> [..., m, n]
Shape crossbar_matmul(const Graph& graph, const Node& node);  // [repeats, I, n], [repeats, m, n] -> [repeats, I, m]
Shape pooling(const Graph& graph, const Node& node);
Shape flatten(const Graph& graph, const Node& node);
Shape reshape(const Graph& graph, const Node& node);  // node.shape, which must have as many elements
Shape slice(const Graph& graph, const Node& node);
Shape pad(const Graph& graph, const Node& node);
Shape cat(const Graph& graph, const Node& node);
// rules_of_arrangement.cpp
Shape to_size(const Graph& graph, const Node& node);  // [C, H, W] -> [C, *node.size]
Shape mean(const Graph& graph, const Node& node);     // node.axes left out, or 1 where node.shape keeps them
Shape transpose(const Graph& graph, const Node& node);
Shape expand(const Graph& graph, const Node& node);  // node.shape, in which dimensions of 1 may be larger
Shape flip(const Graph& graph, const Node& node);
Shape reflection_pad(const Graph& graph, const Node& node);
Shape circular_pad(const Graph& graph, const Node& node);

Shape along_dim(const Graph& graph, const Node& node);   // one input that has the dimension node.dim
Shape layer_norm(const Graph& graph, const Node& node);  // one input with at least node.axes dimensions
Shape group_norm(const Graph& graph, const Node& node);  // one input whose channels node.groups divides

}  // namespace cimq::compiler::shape_rules
