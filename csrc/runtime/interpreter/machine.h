// The machine that a program runs on: crossbars, registers, and the loops that are open.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler/isa/program.h"
#include "runtime/executor.h"
#include "runtime/interpreter/program_layers.h"

namespace cimq::runtime {

/// What crossbars hold, by their numbers.
using Crossbars = std::unordered_map<std::int64_t, std::shared_ptr<const TileCells>>;

class Machine {
 public:
  Machine(const compiler::Graph& graph, const compiler::Program& program, const ProgramLayers& layers,
          Crossbars crossbars)
      : graph_(graph), program_(program), layers_(layers), crossbars_(std::move(crossbars)) {}

  /// Runs the instructions [begin, end).
  void run(std::size_t begin, std::size_t end);
  /// Begins `count` further samples of a call, of which `first` is the number of the first, `x` all of their values.
  /// There may be fewer than the program's batch: its loops over samples then run so many times.
  void begin_samples(std::int64_t first, std::int64_t count, const float* x);
  /// Result of a node in sample `number` of those that were begun, from 0 on.
  const std::vector<float>& result(std::int64_t number, const std::string& node) const;
  /// Raw result of a layer: the one that fits its plan is filled.
  const std::vector<std::int32_t>& integers(std::int64_t number, std::int64_t layer) const;
  const std::vector<float>& floats(std::int64_t number, std::int64_t layer) const;
  const Crossbars& crossbars() const { return crossbars_; }

 private:
  struct RowsNow {
    std::int64_t first, count, all;
    bool begins() const { return first == 0; }
    bool ends() const { return first + count == all; }
  };
  /// Sums of all columns by group and input vector.
  using Sums = std::unordered_map<std::int64_t, std::vector<std::int64_t>>;
  /// An input that crossbars hold: its integers, and as cells.
  struct Operand {
    std::vector<std::int8_t> integers;
    std::vector<LayerCells> matrices;
  };
  struct Products {
    std::vector<std::int32_t> integers;
    std::vector<float> floats;
  };
  /// What every sample has for itself.
  struct Sample {
    std::int64_t number = 0;                                            // in the call
    std::unordered_map<std::string, std::vector<float>> values;         // of nodes
    std::unordered_map<std::string, std::vector<std::uint8_t>> levels;  // quantised inputs
    std::unordered_map<std::string, std::unordered_map<std::int64_t, std::vector<std::uint8_t>>> vectors;  // by lane
    std::unordered_map<std::int64_t, Operand> operands;                                                    // by layer
    std::unordered_map<std::string, Sums> sums;
    std::unordered_map<std::string, Products> products;
    std::unordered_map<std::int64_t, Products> results;  // Y of the layers that are done
  };

  void run_loop(const compiler::isa::Loop& loop, std::size_t begin, std::size_t end);
  const Sample& sample(std::int64_t number) const { return samples_.at(static_cast<std::size_t>(number)); }
  std::int64_t value_of(const compiler::isa::Index& index) const;
  const LayerCells& cells_of(std::int64_t layer, std::int64_t repeat) const;
  /// The rows that an instruction is about, of `all`.
  RowsNow rows_now(const std::optional<compiler::isa::Rows>& rows, std::int64_t all) const;
  void add_up(const compiler::isa::ShiftAdd& i, std::int64_t repeat, std::int64_t at);
  template <typename T>
  void rescale(std::int64_t number, const std::vector<T>& y, std::int64_t rows, std::vector<float>& result) const;
  /// Results of a node, of which rows come one by one: what is not there yet is no number.
  std::vector<float>& result_in_rows(const compiler::Node& node, const RowsNow& rows);

  void step(const compiler::isa::Configure&) {}
  void step(const compiler::isa::Loop&) {}
  void step(const compiler::isa::End&) {}
  void step(const compiler::isa::Ready&) {}
  void step(const compiler::isa::Quantize& i);
  void step(const compiler::isa::Write& i);
  void step(const compiler::isa::Gather& i);
  void step(const compiler::isa::Mvm& i);
  void step(const compiler::isa::ShiftAdd& i);
  void step(const compiler::isa::Requantize& i);
  void step(const compiler::isa::Vector& i);

  const compiler::Graph& graph_;
  const compiler::Program& program_;
  const ProgramLayers& layers_;
  Crossbars crossbars_;
  std::vector<std::pair<std::string, std::int64_t>> loops_;  // open ones: variable and value
  std::vector<Sample> samples_;
  Sample* now_ = nullptr;  // whose turn it is
};

}  // namespace cimq::runtime
