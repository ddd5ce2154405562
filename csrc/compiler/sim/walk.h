// Walks through a program and times every instruction.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/sim/machine.h"
#include "compiler/sim/simulate.h"
#include "compiler/sim/steps.h"
#include "compiler/sim/trace.h"
#include "compiler/sim/values.h"

namespace cimq::compiler::sim {

class Walk {
 public:
  /// Every instruction is recorded in `trace`, which may be null.
  Walk(const Steps& steps, Trace* trace);

  SimulatedTime run();

 private:
  void walk(std::size_t begin, std::size_t end, bool outermost);
  void take(std::size_t at);
  void quantize(const Step& step);
  void write(const Step& step);
  void gather(const Step& step, std::size_t at);
  void mvm(const Step& step, std::size_t at);
  void shift_add(const Step& step);
  void requantize(const Step& step);
  void vector(const Step& step);

  struct Crossbar {
    Moment free;
    bool used = false;
  };
  Crossbar& crossbar(std::int64_t number);
  void walk_loop(std::size_t at, bool outermost);
  /// Of the sample whose turn it is.
  Value& value(std::int32_t number) { return value(number, sample_); }
  /// The register of this lane, or the value of this sample.
  Value& value(std::int32_t number, std::int64_t part);
  /// Number of a layer's input vector, samples counted.
  std::int64_t vector_of(const LayerFacts& facts, std::int64_t repeat, std::int64_t at) const {
    return (sample_ * facts.groups + repeat) * facts.vectors + at;
  }
  SimulatedLayer& layer(std::int32_t number) { return result_.layers[static_cast<std::size_t>(number)]; }
  const LayerFacts& facts(std::int32_t number) const { return steps_.layers[static_cast<std::size_t>(number)]; }
  /// Space in the buffer for what is ready at `at`, and the waiting for it.
  Moment space(const Moment& at, std::int64_t bytes, const Request& request, std::int32_t layer);
  Moment on_vector_unit(const Moment& at, std::int32_t layer, std::int64_t ps);
  Moment on_bus(Unit& direction, Track track, const Moment& at, std::int32_t layer, std::int64_t ps);
  void release_registers(std::size_t at);
  void done(const Moment& at) { last_ = later(last_, at); }
  void finish();

  const Steps& steps_;
  const Hardware& hardware_;
  Trace* trace_;
  std::int64_t write_ps_;
  Chains chains_;
  WritePorts ports_;
  Unit vectors_in_{Cause::kMove}, results_out_{Cause::kMove}, vector_unit_{Cause::kDigital};
  Buffer buffer_;
  std::vector<std::vector<Value>> values_;  // registers of input vectors by lane, others by sample
  std::vector<Sums> sums_;                  // by layer
  std::vector<Crossbar> crossbars_;
  std::vector<std::int64_t> counters_;  // of the loops around, outermost first
  std::size_t next_release_ = 0;
  Moment last_;
  std::int64_t sample_ = 0;
  bool setup_ = false;
  std::int64_t count_ = 0;
  SimulatedTime result_;
};

}  // namespace cimq::compiler::sim
