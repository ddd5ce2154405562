// Points in time that know how they came about: the chain of instructions that waited for one another, as time by layer
// and cause. An instruction begins when the last of what it needs is there, so that a chain has no gaps.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/sim/causes.h"

namespace cimq::compiler::sim {

/// Nodes that no crossbar computes lie between the layers.
inline constexpr std::int32_t kBetweenLayers = -1;

/// `here` is the last stretch of the chain, spent on one layer; what came before it is a link of Chains.
struct Moment {
  std::int64_t time_ps = 0;
  std::int32_t layer = kBetweenLayers;
  std::int32_t before = -1;
  CauseTimes here = {};
};

/// The later one; of equal ones the first.
inline Moment later(const Moment& a, const Moment& b) { return b.time_ps > a.time_ps ? b : a; }

class Chains {
 public:
  /// `at`, and then so much time for a layer. Throws Error beyond 63 bits.
  Moment spend(const Moment& at, std::int32_t layer, Cause cause, std::int64_t ps) {
    Moment end = at;
    if (ps == 0) return end;
    if (at.layer != layer) end = change(at, layer);
    if (__builtin_add_overflow(end.time_ps, ps, &end.time_ps)) refuse(at.time_ps, ps);
    end.here[cause] += ps;
    return end;
  }

  /// Time by layer along the chain, [layers + 1]; the last entry lies between the layers.
  std::vector<CauseTimes> along(const Moment& end, std::size_t layers) const;

 private:
  struct Link {
    std::int32_t layer = kBetweenLayers;
    std::int32_t before = -1;
    CauseTimes here;
  };

  /// The same point in time, as the beginning of a stretch of another layer.
  Moment change(const Moment& at, std::int32_t layer);
  [[noreturn]] static void refuse(std::int64_t time_ps, std::int64_t more_ps);

  std::vector<Link> links_;
};

}  // namespace cimq::compiler::sim
