// Tier 2: how long a program takes on its machine, event by event. Whole picoseconds; instructions in program order,
// each as soon as what it needs is there, so that equal programs take equal times.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/isa/program.h"

namespace cimq::compiler {

struct SimulatedLayer {
  std::string name;
  std::int64_t begin_ps = 0, end_ps = 0;  ///< its input is there; its result is
  std::int64_t writes = 0, mvms = 0;      ///< MVMs: activations of a crossbar, one per digit
  std::int64_t write_ps = 0, mvm_ps = 0;  ///< time that crossbars spent on each, added up
};

/// Time of one sample, from the loaded network (READY) to the last result.
struct SimulatedTime {
  std::int64_t time_ps = 0;
  // The same, taken apart along the chain of instructions that waited for one another: the two add up to time_ps.
  std::int64_t write_ps = 0, mvm_ps = 0;
  std::int64_t crossbars = 0;  ///< that the program uses
  std::int64_t busy_ps = 0;    ///< of all crossbars together
  std::vector<SimulatedLayer> layers;

  /// Share of the time of its crossbars that was used.
  double utilisation() const {
    return time_ps == 0 ? 0.0
                        : static_cast<double>(busy_ps) / static_cast<double>(time_ps) / static_cast<double>(crossbars);
  }
};

/// What takes time: writing a crossbar (write_time_us; at most parallel_writes at once), a digit of an MVM
/// (mvm_time_us). A crossbar does one thing at a time. An MVM waits for its input vector, IM2COL for the MVMs that
/// still read the register that it fills, SHADD for the sums, the next layer for the result; everything digital takes
/// no time. A write waits for its crossbar alone: it goes ahead of the layer that needs it.
///
/// With one crossbar this is the closed form; with all tiles staying, every layer takes its input vectors one after the
/// other: groups * vectors * digits * mvm_time. `program` is verified. Throws Error for a program that runs more than
/// 2^31 instructions or 2^63 ps.
SimulatedTime simulate(const Program& program);

}  // namespace cimq::compiler
