// Tier 2: how long a program takes on its machine, event by event. Whole picoseconds; instructions in program order,
// each as soon as what it needs is there, so that equal programs take equal times.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/cost/energy.h"
#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"
#include "compiler/sim/causes.h"

namespace cimq::compiler {

struct SimulatedLayer {
  std::string name;
  std::int64_t begin_ps = -1, end_ps = 0;  ///< its first input is there; its last result is
  std::int64_t writes = 0, mvms = 0;       ///< MVMs: activations of a crossbar, one per digit
  /// Time that crossbars spent on it, added up: programmed, read, and held by converters.
  std::int64_t write_ps = 0, mvm_ps = 0, adc_ps = 0;
  CauseTimes critical;    ///< its part of the chain of instructions that waited for one another
  EnergyEvents events{};  ///< what is counted for energy
};

/// How long a resource was in use, all of its parts together, of the time that they have; `parts` 0: without limit.
struct ResourceUse {
  std::int64_t busy_ps = 0;
  std::int64_t parts = 0;
};

/// Time of one batch, from the loaded network (READY) to the last result; of one sample where the program's batch is 1.
struct SimulatedTime {
  std::int64_t time_ps = 0;
  std::int64_t batch = 1;
  std::int64_t first_ps = 0;  ///< when the result of the first sample is there
  CauseTimes causes;          ///< the same, taken apart along the chain of instructions that waited for one another
  std::vector<SimulatedLayer> layers;
  CauseTimes between_layers;      ///< what of the chain belongs to nodes that no crossbar computes
  ResourceUse crossbars;          ///< parts: that the program uses
  ResourceUse write_ports;        ///< parts: parallel_writes
  ResourceUse bus_in, bus_out;    ///< one part each
  ResourceUse vector_unit;        ///< one part: all lanes together
  std::int64_t buffer_bytes = 0;  ///< the smallest buffer that the program can do with

  /// Share of the time of its crossbars that was used.
  double utilisation() const {
    if (time_ps == 0 || crossbars.parts == 0) return 0.0;
    return static_cast<double>(crossbars.busy_ps) / static_cast<double>(time_ps) / static_cast<double>(crossbars.parts);
  }
};

/// The machine (docs/machines.md). A crossbar does one thing at a time: it is written (write_time; at most
/// parallel_writes at once), or it applies the digits of an input vector (cost/durations.h). IM2COL brings a vector to
/// a register over the bus. Registers are double: the next vector comes while the MVMs read the last one, and is handed
/// over when they have read it. An MVM waits for its vector and its crossbar, the first of a vector also for space for
/// the sums, which SHADD frees once its results are over the bus; IM2COL waits for space for its vector. QUANT, SHADD,
/// REQ and VEC take the vector unit. The bus, in each direction, the vector unit and the buffer serve one after the
/// other, in the order of the program. A write waits for its crossbar and a port alone: it goes ahead of the layer that
/// needs it. What the machine does not describe takes no time.
///
/// The samples of a batch have values and sums of their own; registers for input vectors are the machine's.
///
/// With one crossbar and no other limits this is the closed form; with all tiles staying, every layer takes its input
/// vectors one after the other: groups * vectors * digits * mvm_time. `program` is verified against `graph`. Throws
/// Error for a program that runs more than 2^31 instructions or 2^63 ps, and, naming the instruction, where its vectors
/// and sums do not fit the buffer.
SimulatedTime simulate(const Program& program, const Graph& graph);

/// The same, and what happened when as a Chrome trace (sim/trace.h), which https://ui.perfetto.dev opens.
SimulatedTime simulate(const Program& program, const Graph& graph, std::string& trace);

}  // namespace cimq::compiler
