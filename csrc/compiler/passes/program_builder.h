// What every lowering writes in the same way: header, configurations, values on their way into and out of a layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compiler/ir/module.h"

namespace cimq::compiler {

/// Names of a layer's values: the node's with what they are.
struct LayerValues {
  std::string quantized, operand, vector, acc, y;
  explicit LayerValues(const Node& node)
      : quantized(node.name + ".x_q"),
        operand(node.name + ".w_q"),
        vector(node.name + ".vector"),
        acc(node.name + ".acc"),
        y(node.name + ".y") {}
};

class ProgramBuilder {
 public:
  /// The module has its tiles.
  explicit ProgramBuilder(const Module& module);

  void emit(isa::Instruction instruction) { program_.code.push_back(std::move(instruction)); }
  /// LOOP and END around what `body` emits; the body alone where it runs once.
  template <typename Body>
  void loop(const std::string& variable, std::int64_t count, const Body& body) {
    if (count > 1) emit(isa::Loop{variable, count});
    body();
    if (count > 1) emit(isa::End{});
  }

  /// What `body` emits for every sample of the batch: in a loop over them, which goes on where one has just ended, or
  /// alone within such a loop, and where the batch is one sample.
  template <typename Body>
  void samples(const Body& body) {
    if (program_.batch == 1 || in_samples_) return body();
    if (samples_end_ == program_.code.size()) {
      program_.code.pop_back();
    } else {
      emit(isa::Loop{"s", program_.batch, true});
    }
    in_samples_ = true;
    body();
    in_samples_ = false;
    emit(isa::End{});
    samples_end_ = program_.code.size();
  }
  /// The next loop over samples begins when all samples are done with what stands above: it overwrites crossbars.
  void part_samples() { samples_end_.reset(); }

  void configure(std::int64_t layer);
  void quantize(std::int64_t layer, const std::optional<isa::Rows>& rows = {});
  /// The second input of a layer whose crossbars hold it; nothing for any other.
  void quantize_operand(std::int64_t layer);
  void shift_add(std::int64_t layer, std::optional<isa::Index> at, std::optional<isa::Index> repeat);
  void requantize(std::int64_t layer, const std::optional<isa::Rows>& rows = {});
  /// Any other node.
  void compute(const Node& node, const std::optional<isa::Rows>& rows = {});

  /// What crossbars are written from: a tensor, or the quantised second input.
  std::string weight_of(std::int64_t layer) const;
  const Node& node(std::int64_t layer) const { return graph_.nodes[tiled(layer).node]; }
  const LayerTiling& tiling(std::int64_t layer) const { return tiled(layer).tiling; }

  /// The program, with the totals of its instructions.
  Program finish();

 private:
  const TiledLayer& tiled(std::int64_t layer) const { return tiles_of(module_)[static_cast<std::size_t>(layer)]; }
  std::string name_of_value(int value) const;

  const Module& module_;
  const Graph& graph_;
  Program program_;
  bool in_samples_ = false;
  std::optional<std::size_t> samples_end_;  // size of the program when the last loop over samples ended
};

}  // namespace cimq::compiler
