#include "runtime/interpreter/program_layers.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/frontends/strict_json.h"
#include "compiler/ir/rows.h"

namespace cimq::runtime {
namespace {

using compiler::Node;

/// Counts what a layer takes before it is taken: every cell is a number, and every product is made.
void count_layer(const StepContext& context, const Node& node, const compiler::LayerTiling& tiling) {
  const compiler::CrossbarLayer& facts = compiler::crossbar_of(node);
  const std::uint64_t cells = saturating_product(static_cast<std::uint64_t>(tiling.rows), tiling.columns);
  // Conductances, and what crossbars hold of them.
  context.budget.keep(node, saturating_product(cells, facts.repeats, 2 * sizeof(std::int16_t)));
  context.budget.operate(node, saturating_product(cells, facts.repeats, facts.invocations, tiling.digits));
  context.budget.check_working(node, saturating_product(static_cast<std::uint64_t>(tiling.columns), facts.repeats,
                                                        facts.invocations, sizeof(std::int64_t)));
}

/// What one sample keeps of a node: its result and, of a layer, what it works with (Machine::Sample).
std::uint64_t sample_bytes_of(const compiler::Graph& graph, const Node& node, const Hardware& hardware) {
  const auto results = static_cast<std::uint64_t>(compiler::elements(node.shape));
  const std::uint64_t value = saturating_product(results, sizeof(float));
  if (!node.crossbar) return value;
  const compiler::CrossbarLayer& facts = compiler::crossbar_of(node);
  const compiler::LayerTiling tiling = compiler::tile_layer(hardware, facts);
  const std::uint64_t vectors = saturating_product(1, facts.repeats, facts.invocations);
  std::uint64_t bytes =
      saturating_sum(saturating_product(value, 3), compiler::elements(graph.shape_of(node.inputs[0])));
  bytes = saturating_sum(bytes, saturating_product(vectors, tiling.columns, sizeof(std::int64_t)));
  if (!compiler::writes_operand(node.op)) return bytes;
  const std::uint64_t cells = saturating_product(1, facts.repeats, tiling.rows, tiling.columns, sizeof(std::int16_t));
  return saturating_sum(bytes, saturating_product(cells, 2));
}

/// A layer whose crossbars hold its second input.
ProgramLayer written_layer_of(const StepContext& context, const Node& node) {
  const compiler::CrossbarLayer& facts = compiler::crossbar_of(node);
  const compiler::LayerTiling tiling = compiler::tile_layer(context.hardware, facts);
  OperandTensors tensors = read_operand_tensors(context, node);
  count_layer(context, node, tiling);
  try {
    // Whether the machine can hold it does not depend on the values.
    CrossbarTensors any;
    any.outputs = facts.outputs;
    any.weight.assign(static_cast<std::size_t>(facts.outputs * facts.inputs_per_output), 1);
    any.options = tensors.options;
    const LayerCells like(compiler::hardware_of(context.hardware, facts), tiling, any, 0, 1);
    OperandRescale rescale(facts, tensors.multiplier);
    return {&node,
            tiling,
            like.plan(),
            {},
            Quantizer(node.name, tensors.x_scale, facts),
            WrittenOperand{OperandQuantizer(node.name, tensors.w_scale, facts.weight_bits), rescale,
                           std::move(tensors.options)},
            context.graph.shape_of(node.inputs[0])};
  } catch (const Error& error) {
    throw Error(message("node '", compiler::shown(node.name), "': ", error.what()));
  }
}

ProgramLayer layer_of(const StepContext& context, const Node& node) {
  if (compiler::writes_operand(node.op)) return written_layer_of(context, node);
  const compiler::CrossbarLayer& facts = compiler::crossbar_of(node);
  const compiler::LayerTiling tiling = compiler::tile_layer(context.hardware, facts);
  CrossbarTensors tensors = read_crossbar_tensors(context, node);
  count_layer(context, node, tiling);
  try {
    const Hardware hardware = compiler::hardware_of(context.hardware, facts);
    std::vector<LayerCells> groups;
    groups.reserve(static_cast<std::size_t>(facts.repeats));
    for (std::int64_t g = 0; g < facts.repeats; ++g) {
      groups.emplace_back(hardware, tiling, tensors, g, facts.repeats);
    }
    Rescale rescale(facts.act_zero, tensors.weight, std::move(tensors.multiplier), std::move(tensors.bias));
    const kernels::MvmPlan plan = groups.front().plan();
    return {&node,
            tiling,
            plan,
            std::move(groups),
            Quantizer(node.name, tensors.x_scale, facts),
            std::move(rescale),
            context.graph.shape_of(node.inputs[0])};
  } catch (const Error& error) {
    throw Error(message("node '", compiler::shown(node.name), "': ", error.what()));
  }
}

}  // namespace

std::vector<LayerCells> ProgramLayer::written(const Hardware& network, std::vector<std::int8_t> w) const {
  const Hardware hardware = compiler::hardware_of(network, facts());
  CrossbarTensors tensors;
  tensors.outputs = facts().repeats * facts().outputs;
  tensors.weight = std::move(w);
  tensors.options = operand()->options;
  std::vector<LayerCells> matrices;
  matrices.reserve(static_cast<std::size_t>(facts().repeats));
  for (std::int64_t r = 0; r < facts().repeats; ++r) {
    matrices.emplace_back(hardware, tiling, tensors, r, facts().repeats);
  }
  return matrices;
}

std::vector<std::uint8_t> ProgramLayer::vector_of(const std::vector<std::uint8_t>& x, std::int64_t repeat,
                                                  std::int64_t at) const {
  const std::int64_t inputs = facts().inputs_per_output;
  std::vector<std::uint8_t> vector(static_cast<std::size_t>(inputs));
  if (!compiler::is_conv(node->op)) {
    const std::int64_t number = repeat * facts().invocations + at;
    std::copy_n(x.begin() + number * inputs, inputs, vector.begin());
    return vector;
  }
  const compiler::Window& w = node->window;
  const std::int64_t channels = input[0] / w.groups;
  const std::int64_t top = at / node->shape[2] * w.stride[0] - w.pad_top;
  const std::int64_t left = at % node->shape[2] * w.stride[1] - w.pad_left;
  const std::int64_t window = w.kernel[0] * w.kernel[1];
  const auto border = static_cast<std::uint8_t>(-facts().act_zero);  // stands for the number 0
  for (std::int64_t k = 0; k < inputs; ++k) {
    const std::int64_t channel = repeat * channels + k / window;
    const std::int64_t row = top + k % window / w.kernel[1] * w.dilation[0];
    const std::int64_t column = left + k % w.kernel[1] * w.dilation[1];
    const bool inside = row >= 0 && row < input[1] && column >= 0 && column < input[2];
    vector[static_cast<std::size_t>(k)] =
        inside ? x[static_cast<std::size_t>((channel * input[1] + row) * input[2] + column)] : border;
  }
  return vector;
}

std::int64_t ProgramLayer::place_of(std::int64_t repeat, std::int64_t at, std::int64_t output) const {
  const compiler::CrossbarLayer& layer = facts();
  if (compiler::is_conv(node->op)) return (repeat * layer.outputs + output) * layer.invocations + at;
  return (repeat * layer.invocations + at) * layer.outputs + output;
}

ProgramLayers::ProgramLayers(const StepContext& context, const compiler::Program& program)
    : loop_ends(compiler::loop_ends(program)) {
  for (const Node& node : context.graph.nodes) {
    nodes[node.name] = &node;
    if (!node.crossbar) steps[node.name] = make_step(context, node);
    sample_bytes = saturating_sum(sample_bytes, sample_bytes_of(context.graph, node, context.hardware));
  }
  std::set<const Node*> in_rows;
  for (const compiler::isa::Instruction& instruction : program.code) {
    const auto* configure = std::get_if<compiler::isa::Configure>(&instruction);
    if (configure != nullptr) layers.push_back(layer_of(context, *nodes.at(configure->node)));
    const auto* vector = std::get_if<compiler::isa::Vector>(&instruction);
    if (vector != nullptr && vector->rows) in_rows.insert(nodes.at(vector->dst));
  }
  for (const Node* node : in_rows) {
    // A row costs as much as all of them (Machine::step): the executor's count is of one run.
    context.budget.operate(*node,
                           saturating_product(operations_of(context.graph, *node), compiler::rows_of(node->shape)));
  }
}

}  // namespace cimq::runtime
