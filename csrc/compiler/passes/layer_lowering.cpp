#include "compiler/passes/layer_lowering.h"

#include <algorithm>
#include <utility>

#include "compiler/ir/rows.h"

namespace cimq::compiler {
namespace {

// Loop variables: rounds of the pool, groups, input vectors, copies, tiles.
constexpr const char* kRound = "r";
constexpr const char* kGroup = "g";
constexpr const char* kPixel = "p";
constexpr const char* kCopy = "c";
constexpr const char* kTile = "t";

using isa::Index;

/// base + stride * variable, where the loop runs more than once.
void add(Index& index, std::int64_t stride, const char* variable, std::int64_t count) {
  if (count > 1) index.terms.push_back({variable, stride});
}

}  // namespace

LayerLowering::LayerLowering(ProgramBuilder& builder, std::int64_t layer, const LayerPlacement& placement)
    : builder_(builder),
      layer_(layer),
      node_(builder.node(layer)),
      facts_(crossbar_of(node_)),
      tiles_(builder.tiling(layer).tiles()),
      placement_(placement),
      copies_(placement.copies),
      pool_(static_cast<std::int64_t>(placement.crossbars.size())),
      values_(node_) {}

void LayerLowering::setup() {
  builder_.configure(layer_);
  if (placement_.resident > 0) write(resident());
}

void LayerLowering::quantize(const std::optional<isa::Rows>& rows) {
  builder_.samples([&] { builder_.quantize(layer_, rows); });
}

void LayerLowering::requantize(const std::optional<isa::Rows>& rows) {
  builder_.samples([&] { builder_.requantize(layer_, rows); });
}

void LayerLowering::multiply() {
  if (!writes_operand(node_.op)) return multiply_all();
  // The pool may hold tiles that samples before have in common.
  builder_.part_samples();
  builder_.samples([this] { multiply_all(); });
}

void LayerLowering::multiply_all() {
  builder_.quantize_operand(layer_);
  if (facts_.repeats == 1) {
    multiply_single();
  } else {
    multiply_groups();
  }
}

void LayerLowering::multiply(const isa::Rows& rows) {
  const std::int64_t each = vectors_per_row(node_);
  Index first{rows.first.base * each, {}};
  for (const isa::Term& term : rows.first.terms) first.terms.push_back({term.variable, term.stride * each});
  builder_.samples([&] { share({resident()}, {first, rows.count * each}, true); });
}

LayerLowering::Strip LayerLowering::resident() const {
  const bool single = facts_.repeats == 1;
  return {{},
          {placement_.first, {}},
          {},
          single ? placement_.resident / copies_ : tiles_,
          single ? 1 : placement_.resident / (tiles_ * copies_),
          true};
}

/// Tiles of the only group that pass through the pool: `tile` is the first.
LayerLowering::Strip LayerLowering::passing(Index tile, std::int64_t tiles) const {
  return {std::move(tile), {first_of_pool(), {}}, {}, tiles, 1};
}

/// One group: rounds of the pool; what stays sees its vectors with the first round. With copies all of it stays, or
/// passes in one round.
void LayerLowering::multiply_single() {
  const std::int64_t staying = placement_.resident / copies_;
  const std::int64_t rest = tiles_ - staying;
  const std::int64_t first = std::min(rest, pool_);
  const std::int64_t rounds = first == 0 ? 0 : (rest - first) / pool_;  // full ones after the first
  const std::int64_t last = rest - first - rounds * pool_;
  // Sums of one vector at a time where it sees all tiles at once, else of all of them at the end.
  const bool at_once = rest == first;
  std::vector<Strip> strips;
  if (staying > 0) strips.push_back(resident());
  if (first > 0) strips.push_back(passing({staying, {}}, first));
  pass(strips, at_once);
  if (at_once) return;
  std::int64_t from = staying + first;
  if (rounds > 0) {
    builder_.loop(kRound, rounds, [&] {
      Index tile{from, {}};
      add(tile, pool_, kRound, rounds);
      pass({passing(std::move(tile), pool_)}, false);
    });
  }
  from += rounds * pool_;
  if (last > 0) pass({passing({from, {}}, last)}, false);
  builder_.samples([this] { builder_.shift_add(layer_, std::nullopt, std::nullopt); });
}

/// Several groups: those that stay, then rounds of whole groups, or groups one by one in rounds of their tiles.
void LayerLowering::multiply_groups() {
  const std::int64_t each = tiles_ * copies_;
  const std::int64_t staying = placement_.resident / each;
  if (staying > 0) pass({resident()}, true);
  const std::int64_t passing = facts_.repeats - staying;
  if (passing == 0) return;
  if (each <= pool_) {
    const std::int64_t at_once = pool_ / each;
    const std::int64_t rounds = passing / at_once;
    if (rounds > 0) {
      builder_.loop(kRound, rounds, [&] {
        Index repeat{staying, {}};
        add(repeat, at_once, kRound, rounds);
        pass({{{}, {first_of_pool(), {}}, repeat, tiles_, at_once}}, true);
      });
    }
    const std::int64_t left = passing - rounds * at_once;
    if (left > 0) {
      pass({{{}, {first_of_pool(), {}}, {staying + rounds * at_once, {}}, tiles_, left}}, true);
    }
    return;
  }
  builder_.loop(kGroup, passing, [&] {
    Index repeat{staying, {}};
    add(repeat, 1, kGroup, passing);
    const std::int64_t rounds = tiles_ / pool_;
    builder_.loop(kRound, rounds, [&] {
      Index tile;
      add(tile, pool_, kRound, rounds);
      pass({{tile, {first_of_pool(), {}}, repeat, pool_, 1}}, false);
    });
    const std::int64_t left = tiles_ - rounds * pool_;
    if (left > 0) pass({{{rounds * pool_, {}}, {first_of_pool(), {}}, repeat, left, 1}}, false);
    builder_.samples([&] { builder_.shift_add(layer_, std::nullopt, repeat); });
  });
}

/// Writes what does not stay, then shows all input vectors to the tiles of the strips.
void LayerLowering::pass(const std::vector<Strip>& strips, bool sums) {
  for (const Strip& strip : strips) {
    if (!strip.stays) write(strip);
  }
  builder_.samples([&] { share(strips, all_vectors(), sums); });
}

/// Shows vectors to the tiles of the strips, shared out among copies.
void LayerLowering::share(const std::vector<Strip>& strips, const Vectors& vectors, bool sums) {
  const std::int64_t groups = strips.front().groups;
  builder_.loop(kGroup, groups, [&] {
    Index repeat = strips.front().repeat;
    add(repeat, 1, kGroup, groups);
    const std::int64_t passes = vectors.count / copies_;
    if (passes > 0) {
      builder_.loop(kPixel, passes, [&] {
        Index at = vectors.first;
        add(at, copies_, kPixel, passes);
        show(strips, at, repeat, copies_, sums);
      });
    }
    const std::int64_t left = vectors.count - passes * copies_;
    if (left > 0) {
      Index at = vectors.first;
      at.base += passes * copies_;
      show(strips, at, repeat, left, sums);
    }
  });
}

/// Shows vectors from `first` on to the tiles of so many copies, one to each.
void LayerLowering::show(const std::vector<Strip>& strips, const Index& first, const Index& repeat, std::int64_t copies,
                         bool sums) {
  builder_.loop(kCopy, copies, [&] {
    Index at = first;
    add(at, 1, kCopy, copies);
    Index lane;
    add(lane, 1, kCopy, copies);
    builder_.emit(isa::Gather{layer_, values_.quantized, values_.vector, at, repeat, lane});
    for (const Strip& strip : strips) {
      each_tile(strip, copies, [&](const Index& tile, const Index& crossbar) {
        builder_.emit(isa::Mvm{layer_, tile, crossbar, values_.vector, values_.acc, at, repeat, 0,
                               builder_.tiling(layer_).digits, lane});
      });
    }
    if (sums) builder_.shift_add(layer_, at, repeat);
  });
}

void LayerLowering::write(const Strip& strip) {
  builder_.loop(kGroup, strip.groups, [&] {
    Index repeat = strip.repeat;
    add(repeat, 1, kGroup, strip.groups);
    builder_.loop(kCopy, copies_, [&] {
      each_tile(strip, copies_, [&](const Index& tile, const Index& crossbar) {
        builder_.emit(isa::Write{layer_, tile, crossbar, std::nullopt, builder_.weight_of(layer_), repeat});
      });
    });
  });
}

/// `body` in a loop over the tiles of a group of the strip, within one over `copies` copies.
template <typename Body>
void LayerLowering::each_tile(const Strip& strip, std::int64_t copies, const Body& body) {
  builder_.loop(kTile, strip.tiles, [&] {
    Index tile = strip.tile;
    add(tile, 1, kTile, strip.tiles);
    Index crossbar = strip.crossbar;
    add(crossbar, strip.tiles * copies_, kGroup, strip.groups);
    add(crossbar, strip.tiles, kCopy, copies);
    add(crossbar, 1, kTile, strip.tiles);
    body(tile, crossbar);
  });
}

std::vector<LayerLowering> lowerings_of(ProgramBuilder& builder, const Module& module) {
  std::vector<LayerLowering> layers;
  layers.reserve(placement_of(module).size());
  for (const LayerPlacement& placement : placement_of(module)) {
    layers.emplace_back(builder, static_cast<std::int64_t>(layers.size()), placement);
  }
  return layers;
}

}  // namespace cimq::compiler
