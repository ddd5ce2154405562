// Closed-form latency: one crossbar re-written for every tile, all serial, batch 1 (Pelke et al., DATE 2026,
// doi 10.23919/date69613.2026.11539262). Integers throughout; time in picoseconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/hardware.h"

namespace cimq::compiler {

/// A layer as the matrix that its crossbars hold.
struct LayerShape {
  std::string name;              ///< named in errors
  std::int64_t outputs = 0;      ///< m: rows of the weight matrix (per group)
  std::int64_t inputs = 0;       ///< n: C_in * k_h * k_w of a convolution (per group)
  std::int64_t invocations = 0;  ///< I: input vectors per inference (OH*OW, tokens, or 1)
  std::int64_t repeats = 1;      ///< R: matrices of this shape (groups, attention heads)
};

struct Tier1Cost {
  std::int64_t tiles = 0;   ///< crossbars that one matrix fills, T
  std::int64_t writes = 0;  ///< R*T
  std::int64_t mvms = 0;    ///< R*I*T*ceil(a/d)
  std::int64_t write_time_ps = 0;
  std::int64_t mvm_time_ps = 0;
  std::int64_t time_ps() const { return write_time_ps + mvm_time_ps; }
};

/// Whole picoseconds of a time in the hardware description, to the nearest.
std::int64_t picoseconds(double time_us);

/// The microseconds nearest to a whole number of picoseconds.
double microseconds(std::int64_t time_ps);

/// Crossbars that `needed` lines fill, `available` lines each.
std::int64_t arrays_for(std::int64_t needed, std::int64_t available);

/// Tiles of the [outputs, inputs] matrix with weight_bits-bit weights under the hardware's mapping.
/// Throws Error (naming layer and key) for sizes below 1, bits outside 1..8, or counts beyond 63 bits.
std::int64_t tile_count(const Hardware& hw, const LayerShape& shape, int weight_bits);

/// Writes, MVMs and time of one layer; throws as tile_count.
Tier1Cost tier1(const Hardware& hw, const LayerShape& shape, int weight_bits, int act_bits);

/// time_ps() for every pair of `bits`, as [w index * bits.size() + a index].
std::vector<std::int64_t> tier1_table(const Hardware& hw, const LayerShape& shape, const std::vector<int>& bits);

/// a + b; throws Error naming `what` if it exceeds 63 bits.
std::int64_t checked_sum(std::int64_t a, std::int64_t b, const std::string& what);

}  // namespace cimq::compiler
