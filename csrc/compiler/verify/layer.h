// A crossbar layer of the program that is verified.
#pragma once

#include <string>

#include "compiler/ir/graph.h"
#include "compiler/ir/tiling.h"
#include "compiler/isa/program.h"

namespace cimq::compiler::verify {

struct Layer {
  const Node* node = nullptr;
  LayerTiling tiling;

  const CrossbarLayer& facts() const { return crossbar_of(*node); }
  const std::string& tensor(const char* role) const { return node->tensors.at(role); }
  /// Whether its crossbars hold its second input.
  bool writes_operand() const { return compiler::writes_operand(node->op); }
  bool is_described_by(const isa::Configure& i) const;
};

}  // namespace cimq::compiler::verify
