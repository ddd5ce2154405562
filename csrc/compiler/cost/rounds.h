// Time of a network of which some tiles stay in their crossbars and the others pass through a pool in rounds: what
// sim/simulate.h finds for such a program, round by round instead of instruction by instruction: to the picosecond on
// machines that describe writes and MVMs only, without what else takes time on others.
#pragma once

#include <cstdint>
#include <span>

namespace cimq::compiler {

/// A crossbar layer, in the order of execution.
struct LayerLoad {
  std::int64_t tiles = 0;  ///< of one group
  std::int64_t groups = 1;
  std::int64_t vectors = 0;         ///< input vectors of one group
  std::int64_t vector_time_ps = 0;  ///< of all digits of a vector
  std::int64_t copies = 1;          ///< of every tile; vector i is shown to copy i % copies
  bool passes = false;              ///< never stays: its crossbars hold an input, written for each sample

  /// Crossbars in which all of it stays.
  std::int64_t all() const { return tiles * groups * copies; }
  friend bool operator==(const LayerLoad&, const LayerLoad&) = default;
};

struct PoolMachine {
  std::int64_t pool = 0;  ///< crossbars of the pool; 0 where everything stays
  std::int64_t write_time_ps = 0;
  std::int64_t parallel_writes = 0;  ///< 0: no limit
  std::int64_t batch = 1;            ///< samples that a tile serves when it is written
};

/// Picoseconds of a batch; `resident` [layer]: so many crossbars stay, with whole groups or tiles of the only one;
/// of a layer with copies all or none. Layers are in series; a write waits for its crossbar and a port alone, that of
/// an input (`passes`) also for the layer before (programs may begin it earlier, when the input is there). The samples
/// of a batch go through a layer one after the other, each as soon as it is through the layer before. kUncountable
/// (common/saturating.h) beyond 64 bits.
std::uint64_t time_in_rounds(const PoolMachine& machine, std::span<const LayerLoad> loads,
                             std::span<const std::int64_t> resident);

}  // namespace cimq::compiler
