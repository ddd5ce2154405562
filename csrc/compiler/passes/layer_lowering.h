// What the programs of a crossbar layer are made of: writing its tiles, showing its input vectors to them, row by row
// or all at once. Of a batch, a tile is written for all samples, and an input that crossbars hold for each.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "compiler/passes/program_builder.h"

namespace cimq::compiler {

class LayerLowering {
 public:
  LayerLowering(ProgramBuilder& builder, std::int64_t layer, const LayerPlacement& placement);

  /// What is written before READY.
  void setup();
  /// QUANT, of some rows of the input or of all.
  void quantize(const std::optional<isa::Rows>& rows);
  /// All products; what does not stay is written.
  void multiply();
  /// Whether tiles pass through the pool that are written for all samples: `multiply` then stands outside of what is
  /// done for every sample.
  bool is_shared() const {
    return placement_.resident < copies_ * tiles_ * facts_.repeats && !writes_operand(node_.op);
  }
  /// The products for some rows of the result; all of the layer stays.
  void multiply(const isa::Rows& rows);
  /// REQ, of some rows of the result or of all.
  void requantize(const std::optional<isa::Rows>& rows);

 private:
  /// Tiles that lie side by side in crossbars: tiles [tile, tile + tiles) of every copy of groups from `repeat` on,
  /// from `crossbar` on.
  struct Strip {
    isa::Index tile, crossbar, repeat;
    std::int64_t tiles = 0, groups = 1;
    bool stays = false;
  };
  /// Input vectors [first, first + count) of every group.
  struct Vectors {
    isa::Index first;
    std::int64_t count = 0;
  };

  Vectors all_vectors() const { return {{}, facts_.invocations}; }
  std::int64_t first_of_pool() const { return placement_.crossbars.front(); }
  Strip resident() const;
  Strip passing(isa::Index tile, std::int64_t tiles) const;
  void multiply_all();
  void multiply_single();
  void multiply_groups();
  void pass(const std::vector<Strip>& strips, bool sums);
  void share(const std::vector<Strip>& strips, const Vectors& vectors, bool sums);
  void show(const std::vector<Strip>& strips, const isa::Index& first, const isa::Index& repeat, std::int64_t copies,
            bool sums);
  void write(const Strip& strip);
  template <typename Body>
  void each_tile(const Strip& strip, std::int64_t copies, const Body& body);

  ProgramBuilder& builder_;
  std::int64_t layer_;
  const Node& node_;
  const CrossbarLayer& facts_;
  std::int64_t tiles_;
  const LayerPlacement& placement_;
  std::int64_t copies_;
  std::int64_t pool_;
  LayerValues values_;
};

/// One for every crossbar layer of a placed module, in order.
std::vector<LayerLowering> lowerings_of(ProgramBuilder& builder, const Module& module);

}  // namespace cimq::compiler
