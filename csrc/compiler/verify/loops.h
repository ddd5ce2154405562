// The loops around the instruction that is looked at.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "compiler/isa/program.h"
#include "compiler/verify/ranges.h"

namespace cimq::compiler::verify {

/// For every LOOP whether it is walked iteration by iteration: its variable selects a tile, a crossbar, a lane
/// or rows.
std::vector<bool> unrolled_loops(const Program& program, const std::vector<std::size_t>& ends);

struct OpenLoop {
  std::string variable;
  std::int64_t count = 1;
  bool unrolled = false;
  std::int64_t value = 0;  ///< where unrolled
  bool samples = false;    ///< over the samples of the batch
};

/// The loops around the instruction that is looked at, from the outermost.
class OpenLoops {
 public:
  /// Throws Error (`where` begins it) for a variable that is open already, or too many loops.
  void open(const OpenLoop& loop, ProgramLine where);
  void close();
  bool empty() const { return loops_.empty(); }
  /// Whether one of them is over the samples of the batch.
  bool in_samples() const;
  /// Whether all others are walked iteration by iteration.
  bool all_walked() const;
  std::size_t depth() const { return loops_.size(); }
  void set_value(std::int64_t value) { loops_.back().value = value; }
  /// Counts by depth.
  std::span<const std::int64_t> counts() const { return counts_; }
  /// Throws Error (`where` begins it) for a variable that is not open, or a value beyond 63 bits.
  Affine evaluate(const isa::Index& index, ProgramLine where) const;

 private:
  std::vector<OpenLoop> loops_;
  std::array<std::int64_t, kMaxDepth> counts_{};
};

}  // namespace cimq::compiler::verify
