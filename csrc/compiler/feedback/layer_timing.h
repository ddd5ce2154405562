// A crossbar layer with given bits, as plans and timelines take it.
#pragma once

#include <cstdint>
#include <vector>

#include "common/hardware.h"
#include "compiler/cost/energy.h"
#include "compiler/cost/rounds.h"
#include "compiler/ir/graph.h"

namespace cimq::compiler {

/// How long an MVM of a tile takes, all digits of an input vector.
struct TileTiming {
  std::uint64_t hold_ps = 0;  ///< its crossbar is held so long
  std::uint64_t code_ps = 0;  ///< its last code is there

  friend bool operator==(const TileTiming&, const TileTiming&) = default;
};

struct LayerTiming {
  LayerLoad load;                   ///< without copies
  std::vector<TileTiming> columns;  ///< by column tile; one where they are all alike
  TileTiming slowest;
  EnergyEvents once{};            ///< of one sample, without writes and without bytes
  std::int64_t vector_bytes = 0;  ///< of an input vector
  std::int64_t result_bytes = 0;  ///< of the results of all input vectors

  /// Of tiles [begin, end) together.
  TileTiming slowest_of(std::int64_t begin, std::int64_t end) const;
  const TileTiming& tile(std::int64_t number) const {
    return columns[static_cast<std::size_t>(number) % columns.size()];
  }
  friend bool operator==(const LayerTiming& a, const LayerTiming& b);
};

/// `passes`: its crossbars hold an input. Throws Error for a layer with more than kMaxTiles tiles, and for times beyond
/// 58 bits.
LayerTiming timing_of(const Hardware& hardware, const CrossbarLayer& layer, bool passes);

}  // namespace cimq::compiler
