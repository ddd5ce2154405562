// Which products of a network's layers a program has made, where their sums are, and what of the results is done.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "compiler/isa/program.h"
#include "compiler/verify/ranges.h"

namespace cimq::compiler::verify {

/// What a layer has to do: every digit of every input vector of every group on every tile.
struct LayerWork {
  std::string name;
  std::int64_t tiles = 0, digits = 0, repeats = 0, invocations = 0;
};

class Products {
 public:
  void add_layer(const LayerWork& work) { layers_.push_back(work); }

  /// An MVM has added the products of a box to the sums `acc`.
  void made(Box box, const std::string& acc);
  /// SHADD adds up repeat x at of a layer from `acc` into `y`. Throws Error naming the instruction where a product of
  /// them is not in `acc`.
  void add_up(Box box, const std::string& acc, const std::string& y, std::span<const std::int64_t> counts);
  /// Throws Error (`where` begins it) unless the vectors `at` (numbers, no loop) of every group of the layer are in
  /// `y`, each once.
  void check_complete(const std::string& y, std::int64_t layer, const Range& at, ProgramLine where) const;
  /// Another value takes the place of these sums.
  void forget(const std::string& name) { sums_.erase(name); }
  /// Throws Error unless every product of every layer was made once.
  void check_all();

  // Loops, innermost last.
  void open_loop() { loops_.push_back({order_, {}}); }
  /// One that is looked at as a whole: everything made in it becomes what all of its iterations make.
  void close_loop(std::size_t depth, std::int64_t count);
  /// One whose iterations were walked: what they made is joined.
  void close_walked_loop();

 private:
  struct Loop {
    std::uint64_t first = 0;  // order of the first box that is made in it
    std::vector<std::string> names;
  };

  std::vector<Box>& sums(const std::string& name);
  /// Leaves the innermost loop: `change(boxes, begin)` for the products and for all sums that were added to in it.
  template <typename Change>
  void leave_loop(const Change& change);
  static void check_tile(const LayerWork& work, std::int64_t tile, std::span<const Box> boxes);

  std::vector<LayerWork> layers_;
  std::vector<Box> made_;
  std::unordered_map<std::string, std::vector<Box>>
      sums_;  // of `acc`: what SHADD has not taken yet; of `y`: what is done
  std::vector<Loop> loops_;
  std::uint64_t order_ = 0;
};

}  // namespace cimq::compiler::verify
