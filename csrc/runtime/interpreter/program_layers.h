// What a program's instructions work with: the layers of a network as cells, its other nodes as steps.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/ir/tiling.h"
#include "compiler/isa/program.h"
#include "runtime/interpreter/layer_cells.h"
#include "runtime/steps/quantizer.h"
#include "runtime/steps/rescale.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {

/// What a layer whose crossbars hold its second input does with it.
struct WrittenOperand {
  OperandQuantizer quantizer;
  OperandRescale rescale;
  kernels::MvmOptions options;  ///< of the first matrix
};

struct ProgramLayer {
  const compiler::Node* node = nullptr;
  compiler::LayerTiling tiling;
  kernels::MvmPlan plan;           ///< of the first group
  std::vector<LayerCells> groups;  ///< empty where crossbars hold an input
  Quantizer quantizer;
  std::variant<Rescale, WrittenOperand> rest;
  compiler::Shape input;  ///< of the node

  const compiler::CrossbarLayer& facts() const { return compiler::crossbar_of(*node); }
  bool exact() const { return plan.exact; }
  /// Null for a layer with weights of its own.
  const WrittenOperand* operand() const { return std::get_if<WrittenOperand>(&rest); }
  /// The matrices that crossbars hold for a sample: `w` [repeats, outputs, inputs], integers.
  std::vector<LayerCells> written(const Hardware& network, std::vector<std::int8_t> w) const;
  /// Raw bits of input vector `at` of group `repeat`, out of the quantised input.
  std::vector<std::uint8_t> vector_of(const std::vector<std::uint8_t>& x, std::int64_t repeat, std::int64_t at) const;
  /// Where the result of an output of a group is, within the node's.
  std::int64_t place_of(std::int64_t repeat, std::int64_t at, std::int64_t output) const;
};

struct ProgramLayers {
  std::vector<ProgramLayer> layers;                              ///< as the program numbers them
  std::unordered_map<std::string, std::unique_ptr<Step>> steps;  ///< of the other nodes, by name
  std::unordered_map<std::string, const compiler::Node*> nodes;
  std::vector<std::size_t> loop_ends;
  std::uint64_t sample_bytes = 0;  ///< at most, of what a sample has for itself while a batch is computed

  /// Throws Error naming the node where tensors are missing or do not fit, or where it takes more than the budget.
  ProgramLayers(const StepContext& context, const compiler::Program& program);
};

}  // namespace cimq::runtime
