// What crossbars and registers hold at an instruction, in the iteration that is looked at.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler/verify/ranges.h"

namespace cimq::compiler::verify {

/// A tile of a group's matrix.
struct Held {
  std::int64_t layer = 0, tile = 0;
  Affine repeat;
  std::int64_t sample = 0;  ///< whose value it was written from; 0 for weights
  friend bool operator==(const Held&, const Held&) = default;
};

/// A value on its way through a layer.
struct Register {
  enum Kind { kQuantized, kOperand, kVector, kAcc, kY };

  Kind kind = kQuantized;
  std::int64_t layer = 0;
  Affine repeat, at;        ///< of an input vector
  std::int64_t sample = 0;  ///< of an input vector: whose it is
  friend bool operator==(const Register&, const Register&) = default;
};
/// What it holds, in words.
std::string text_of(const Register& content);

/// Of several samples registers are those of one: all samples do the same, so that what one's registers hold, those of
/// all hold. What samples share is said to be one's: crossbars, and the registers of input vectors.
class State {
 public:
  /// Another sample's turn. Samples are counted, so that one's turn in another loop is another sample too.
  void next_sample() { ++sample_; }
  std::int64_t sample() const { return sample_; }

  void write(std::int64_t crossbar, const Held& held);
  bool holds(std::int64_t crossbar, const Held& held) const;
  void set(const std::string& name, std::int64_t lane, const Register& content);
  /// Null for one that holds nothing.
  const Register* find(const std::string& name, std::int64_t lane) const;

  // Loops that are looked at as a whole, innermost last.
  void open_loop() { loops_.emplace_back(); }
  /// From the end of an iteration to the beginning of the next: what was made for the present value of the variable of
  /// loop `depth` was made for the one before.
  void next_iteration(std::size_t depth);
  /// Leaves the loop, with what its last iteration made.
  void close_loop(std::size_t depth, std::int64_t count);

 private:
  struct Loop {
    std::vector<std::int64_t> crossbars;  // that were written in it with an index that follows a loop
    std::vector<std::pair<std::string, std::int64_t>> registers;  // and their lanes
  };

  /// What is listed is listed once, however often it was written.
  void deduplicate();
  template <typename Change>
  void change(const Change& change);

  std::unordered_map<std::int64_t, Held> crossbars_;
  std::unordered_map<std::string, std::unordered_map<std::int64_t, Register>> registers_;  // by lane
  std::vector<Loop> loops_;
  std::int64_t sample_ = 0;
};

}  // namespace cimq::compiler::verify
