#include "compiler/passes/program_builder.h"

#include "common/error.h"
#include "common/mapping.h"

namespace cimq::compiler {
namespace {

/// Writes and MVMs of a program, loops multiplied out. Throws Error beyond 63 bits.
ProgramCounts counts_of(const Program& program) {
  ProgramCounts counts;
  std::vector<std::int64_t> times = {1};
  const auto add = [&times](std::int64_t& count, std::int64_t each) {
    std::int64_t more = 0;
    check(!__builtin_mul_overflow(times.back(), each, &more) && !__builtin_add_overflow(count, more, &count),
          "the program runs more than 2^63 times");
  };
  for (const isa::Instruction& instruction : program.code) {
    if (const auto* loop = std::get_if<isa::Loop>(&instruction)) {
      std::int64_t inner = 0;
      check(!__builtin_mul_overflow(times.back(), loop->count, &inner), "the program runs more than 2^63 times");
      times.push_back(inner);
    } else if (std::holds_alternative<isa::End>(instruction)) {
      times.pop_back();
    } else if (std::holds_alternative<isa::Ready>(instruction)) {
      counts.setup_writes = std::exchange(counts.writes, 0);
    } else if (std::holds_alternative<isa::Write>(instruction)) {
      add(counts.writes, 1);
    } else if (const auto* mvm = std::get_if<isa::Mvm>(&instruction)) {
      add(counts.mvms, mvm->digit_end - mvm->digit_begin);
    }
  }
  return counts;
}

}  // namespace

ProgramBuilder::ProgramBuilder(const Module& module) : module_(module), graph_(module.graph) {
  program_.hardware = module.hardware;
  program_.batch = module.batch;
  program_.input = graph_.input_name;
  program_.output = graph_.nodes[static_cast<std::size_t>(graph_.output)].name;
}

std::string ProgramBuilder::name_of_value(int value) const {
  return value < 0 ? graph_.input_name : graph_.nodes[static_cast<std::size_t>(value)].name;
}

void ProgramBuilder::configure(std::int64_t layer) {
  const CrossbarLayer& facts = crossbar_of(node(layer));
  isa::Configure i;
  i.layer = layer;
  i.node = node(layer).name;
  i.name = facts.layer_name;
  i.weight_bits = facts.weight_bits;
  i.act_bits = facts.act_bits;
  i.act_signed = facts.act_signed;
  i.outputs = facts.outputs;
  i.inputs = facts.inputs_per_output;
  i.invocations = facts.invocations;
  i.repeats = facts.repeats;
  i.slices = tiling(layer).slices;
  i.digits = tiling(layer).digits;
  i.row_tiles = tiling(layer).row_tiles;
  i.column_tiles = tiling(layer).column_tiles;
  emit(std::move(i));
}

void ProgramBuilder::quantize(std::int64_t layer, const std::optional<isa::Rows>& rows) {
  const Node& node = this->node(layer);
  const CrossbarLayer& facts = crossbar_of(node);
  const IntegerRange range = activation_range(facts.act_bits, facts.act_signed);
  emit(isa::Quantize{layer, name_of_value(node.inputs[0]), LayerValues(node).quantized, node.tensors.at("x_scale"),
                     range.lo, range.hi, facts.act_zero, rows});
}

void ProgramBuilder::quantize_operand(std::int64_t layer) {
  const Node& node = this->node(layer);
  if (!writes_operand(node.op)) return;
  const IntegerRange range = weight_range(crossbar_of(node).weight_bits);
  emit(isa::Quantize{layer, name_of_value(node.inputs[1]), LayerValues(node).operand, node.tensors.at("w_scale"),
                     range.lo, range.hi, 0, std::nullopt, true});
}

std::string ProgramBuilder::weight_of(std::int64_t layer) const {
  const Node& node = this->node(layer);
  return writes_operand(node.op) ? LayerValues(node).operand : node.tensors.at("weight");
}

void ProgramBuilder::shift_add(std::int64_t layer, std::optional<isa::Index> at, std::optional<isa::Index> repeat) {
  const LayerValues values(node(layer));
  std::vector<std::int64_t> shifts;
  shifts.reserve(static_cast<std::size_t>(tiling(layer).slices));
  for (int s = 0; s < tiling(layer).slices; ++s) shifts.push_back(std::int64_t{module_.hardware.cell_bits} * s);
  emit(isa::ShiftAdd{layer, values.acc, values.y, std::move(at), std::move(repeat), std::move(shifts)});
}

void ProgramBuilder::requantize(std::int64_t layer, const std::optional<isa::Rows>& rows) {
  const Node& node = this->node(layer);
  const int zero = crossbar_of(node).act_zero;
  const std::string bias = writes_operand(node.op) ? "" : node.tensors.at("bias");
  emit(isa::Requantize{layer, LayerValues(node).y, node.name, node.tensors.at("multiplier"), bias, zero,
                       zero == 0 ? "" : weight_of(layer), rows});
}

void ProgramBuilder::compute(const Node& node, const std::optional<isa::Rows>& rows) {
  std::vector<std::string> inputs;
  inputs.reserve(node.inputs.size());
  for (const int input : node.inputs) inputs.push_back(name_of_value(input));
  emit(isa::Vector{std::string(name_of(node.op)), std::move(inputs), node.name, rows});
}

Program ProgramBuilder::finish() {
  program_.counts = counts_of(program_);
  return std::move(program_);
}

}  // namespace cimq::compiler
