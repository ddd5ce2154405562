// What a policy costs as a program: time and energy of a pipeline's program on a machine, for searches that ask for
// thousands of policies of one network. Compiling and simulating say the same, a hundred times slower.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/hardware.h"
#include "compiler/cost/energy.h"
#include "compiler/feedback/layer_timing.h"
#include "compiler/feedback/timeline.h"
#include "compiler/ir/graph.h"
#include "compiler/plan/choose.h"
#include "compiler/plan/stationary.h"
#include "compiler/plan/ways.h"

namespace cimq::compiler {

/// Bits of a layer's weights and activations.
using LayerWidths = std::pair<int, int>;

/// One sample.
struct ProgramCost {
  std::int64_t time_ps = 0;
  EnergyEvents events{};  ///< of all layers (cost/energy.h)
  std::string chosen;     ///< what the pipeline "pipelined" takes, in words; else empty
};

/// Costs of policies of one network on one machine, by the pipelines "stationary" and "pipelined". On a machine of
/// which only writes, MVMs and converters take time (has_timeline) they come from timelines; on others the program is
/// compiled and simulated, which is slow. What was asked of a layer is kept.
class PipelineCost {
 public:
  /// The bits of `graph` do not matter. Throws Error for another pipeline, and for a rule that it does not know: kAny
  /// without "pipelined".
  PipelineCost(Graph graph, const Hardware& hardware, std::string_view pipeline, CopyRule rule);
  PipelineCost(const PipelineCost&) = delete;  // its timeline looks at its graph
  PipelineCost& operator=(const PipelineCost&) = delete;

  /// Crossbar layers in order of execution.
  std::vector<std::string> layer_names() const;

  /// Whether costs come from timelines.
  bool fast() const { return fast_; }

  /// Bits in the order of layer_names. Throws Error for another number of layers, bits outside 1..8, networks with more
  /// than kMaxTiles tiles, times beyond 63 bits, and as sim/simulate.h where a program does not fit the buffer.
  ProgramCost cost(std::span<const LayerWidths> bits);

  /// The same by compiling and simulating, on every machine.
  ProgramCost simulated(std::span<const LayerWidths> bits) const;

  /// Of a layer a number for every pair of bits, [weight bits - 1][activation bits - 1]: those with the same number
  /// take the same time, and `with_energy` the same energy, whatever bits other layers have.
  std::array<std::array<int, 8>, 8> kinds(std::size_t layer, bool with_energy) const;

 private:
  const LayerTiming& timing(std::size_t layer, const LayerWidths& bits);
  void check_bits(std::span<const LayerWidths> bits) const;
  std::vector<PlacedLayer> placed(const StationaryPlan& plan) const;
  EnergyEvents events(std::span<const PlacedLayer> layers, std::int64_t pool) const;
  ProgramCost stationary();
  ProgramCost pipelined();

  Graph graph_;
  Hardware hardware_;
  bool pipelined_;
  CopyRule rule_;
  bool fast_;
  std::vector<std::size_t> nodes_;  // of the layers
  std::vector<LayerRows> rows_;
  std::vector<std::array<std::optional<LayerTiming>, 64>> timings_;  // by layer and bits
  Timeline timeline_;
  PlanMemory memory_;
  // Of the policy at hand.
  std::vector<const LayerTiming*> now_;
  std::vector<LayerLoad> loads_;
};

}  // namespace cimq::compiler
