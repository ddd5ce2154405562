// A network of one crossbar layer and a program for it without code: what tests of the verifier begin with.
#pragma once

#include <cstdint>
#include <string>

#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::test {

/// A layer of 6 input vectors of 4 digits on 2 tiles, in some groups.
struct LayerBench {
  compiler::Graph graph;
  compiler::Program program;

  explicit LayerBench(std::int64_t groups = 1) {
    compiler::CrossbarLayer layer;
    layer.layer_name = std::string("l");
    layer.weight_bits = layer.act_bits = 4;
    layer.outputs = 3;
    layer.inputs_per_output = 5;
    layer.invocations = 6;
    layer.repeats = groups;
    compiler::Node node;
    node.name = std::string("n");
    node.op = compiler::OpKind::kCrossbarLinear;
    node.inputs = {-1};
    node.tensors = {{"weight", "w"}, {"x_scale", "s"}, {"multiplier", "m"}, {"bias", "b"}};
    node.crossbar = layer;
    graph.input_name = std::string("x");
    graph.output = 0;
    graph.nodes = {node};
    program.input = std::string("x");
    program.output = std::string("n");
    program.hardware.rows = 3;
    program.hardware.resources.crossbars = 8;
  }
};

}  // namespace cimq::test
