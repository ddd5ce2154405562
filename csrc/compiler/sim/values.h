// When values are there. Values of the network, of each sample, and registers are one moment each; sums are kept for
// every input vector between its first MVM and its SHADD.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "compiler/sim/moment.h"

namespace cimq::compiler::sim {

/// A value, or a register that is filled again and again.
struct Value {
  Moment ready;            ///< what it holds is there
  Moment last_read;        ///< nobody reads it any more
  std::int64_t bytes = 0;  ///< space that it takes in the buffer

  void read(const Moment& at) { last_read = later(last_read, at); }
};

/// Sums of a layer, by the number of their input vector: (sample * groups + group) * vectors + vector.
class Sums {
 public:
  /// Those of `vector`, or null.
  Moment* find(std::int64_t vector) {
    if (vector == last_) return last_sum_;
    const auto found = open_.find(vector);
    if (found == open_.end()) return nullptr;
    last_ = vector;
    last_sum_ = &found->second;
    return last_sum_;
  }
  Moment& open(std::int64_t vector) {
    last_ = vector;
    last_sum_ = &open_[vector];
    return *last_sum_;
  }
  void close(std::int64_t vector) {
    open_.erase(vector);
    last_ = -1;
  }

 private:
  std::unordered_map<std::int64_t, Moment> open_;
  std::int64_t last_ = -1;  // an MVM mostly adds to the sums of the MVM before
  Moment* last_sum_ = nullptr;
};

}  // namespace cimq::compiler::sim
