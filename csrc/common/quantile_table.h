// Sampling of any distribution by its quantile function in integer arithmetic.
//
// The table is built once on the host in double and rounded to fixed point; drawing a sample is then an index and a
// linear interpolation in integers, so that no libm call on any device can change a bit.
//
// Layout: a uniform word r falls in the lower (r < 2^31) or upper half; v = r or ~r is its distance from that half's
// end, so u = (v + 1/2) / 2^32 is the probability of a more extreme value. Cells are spaced as a floating-point number
// with kQuantileSubBits fraction bits: 32 cells per octave of u, so that they get finer towards the tails, down to
// single words (u = 2^-33, 6.3 sigma of a Gaussian).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "common/host_device.h"

namespace cimq {

constexpr int kQuantileSubBits = 5;
/// Nodes per half: 26 groups of 32 cells of the largest v (2^31 - 1), 32 more for v < 32, and the end of the last cell.
constexpr int kQuantileNodes = (25 << kQuantileSubBits) + (2 << kQuantileSubBits) + 1;
/// Samples are integers; table nodes carry this many more fraction bits.
constexpr int kQuantileFractionBits = 12;
/// Magnitude at which samples saturate (any conductance in 1/256 level is clamped long before).
constexpr std::int32_t kQuantileMaxSample = 1 << 17;

/// Position of v (< 2^31) in a half's nodes: cell index and the bits that are interpolated.
struct QuantileCell {
  std::int32_t index;
  std::int32_t shift;
};

CIMQ_HOST_DEVICE inline QuantileCell quantile_cell(std::uint32_t v) {
#if defined(__CUDA_ARCH__)
  const int top = 31 - __clz(static_cast<int>(v | 1U));
#else
  const int top = 31 - __builtin_clz(v | 1U);
#endif
  const int shift = top > kQuantileSubBits ? top - kQuantileSubBits : 0;
  return {static_cast<std::int32_t>((static_cast<std::uint32_t>(shift) << kQuantileSubBits) + (v >> shift)), shift};
}

/// Sample for the uniform word `r`. `nodes` holds 2 * kQuantileNodes values: the lower half, then the upper half.
CIMQ_HOST_DEVICE inline std::int32_t quantile_sample(const std::int32_t* nodes, std::uint32_t r) {
  const bool upper = (r >> 31) != 0U;
  const std::uint32_t v = upper ? ~r : r;
  const QuantileCell cell = quantile_cell(v);
  const std::int32_t* node = nodes + (upper ? kQuantileNodes : 0) + cell.index;
  const std::int64_t fraction = v & ((std::uint32_t{1} << cell.shift) - 1U);
  const std::int64_t step = static_cast<std::int64_t>(node[1]) - node[0];
  // Right shifts of negative numbers are arithmetic (C++20): floor, the same on every device.
  const std::int64_t value = node[0] + ((step * fraction) >> cell.shift);
  return static_cast<std::int32_t>((value + (1 << (kQuantileFractionBits - 1))) >> kQuantileFractionBits);
}

/// The nodes of one distribution on the host.
class QuantileTable {
 public:
  /// @param quantile  `quantile(u, upper)`: the value below which (upper: above which) the distribution has
  ///                  probability u, u in (0, 1/2], in units of one integer sample. Taking the upper tail by its own
  ///                  probability keeps its precision.
  explicit QuantileTable(const std::function<double(double u, bool upper)>& quantile);

  /// Gaussian with the given mean and standard deviation, in units of one integer sample.
  static QuantileTable gaussian(double mean, double sigma);

  std::int32_t sample(std::uint32_t r) const { return quantile_sample(nodes_.data(), r); }
  /// 2 * kQuantileNodes values, for quantile_sample on another device.
  const std::vector<std::int32_t>& nodes() const { return nodes_; }
  std::int32_t smallest() const;  ///< no sample is below
  std::int32_t largest() const;   ///< no sample is above

 private:
  std::vector<std::int32_t> nodes_;
};

/// Inverse of the standard normal distribution function, relative error about 1e-16 (Wichura, algorithm AS 241,
/// PPND16, 1988). p in (0, 1).
double inverse_normal_cdf(double p);

}  // namespace cimq
