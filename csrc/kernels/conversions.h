// What the converters of programmed crossbars do with given inputs, conversion by conversion: which codes they give,
// where the clamp acts, and what gradients need of it (docs/numbers.md). Nothing of [batch, outputs, slices, tiles,
// digits] is ever stored: currents are made block by block and reduced at once.
//
// All functions need a converter (plan.ideal is false) and a CrossbarMvm made with allow_collapse = false; they throw
// cimq::Error otherwise, as they do for activations outside act_bits. They work on the calling thread and are
// thread-safe; apart from the last bits of squared_error the results do not depend on how a batch is split.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/crossbar_mvm.h"

namespace cimq::kernels {

/// Counters of the conversions of one weight slice.
struct SliceConversions {
  std::vector<std::int64_t> codes;  ///< [levels] how often each code was given, from code_min on
  std::int64_t clipped_low = 0;     ///< conversions whose code the clamp raised
  std::int64_t clipped_high = 0;    ///< conversions whose code the clamp lowered
  std::int64_t lowest = 0;          ///< smallest current, level units (1/256 level where fractional)
  std::int64_t highest = 0;         ///< largest current, likewise
  double squared_error = 0.0;       ///< sum of (lo + lsb * code - I)^2 over all conversions, level units squared
};

/// Counts every conversion that x [batch, inputs] causes, one entry per weight slice; row b is access first_access + b.
/// Both columns of a pair that are
/// converted on their own count. batch = 0 gives counters of zero.
std::vector<SliceConversions> count_conversions(const CrossbarMvm& mvm, const std::uint8_t* x, std::int64_t batch,
                                                std::uint64_t first_access = 0);

/// Where shares_of_conversions writes; a null pointer is left out. rows = batch of the whole arrays.
struct ConversionShares {
  std::int64_t rows = 0;
  /// [row_tiles][columns][n_w][rows][outputs], columns: 2 where the columns of a pair are converted on their own, else
  /// 1. The share of the input digits, weighted by the magnitude of their weights, whose code is not clamped: 1 where
  /// all pass.
  float* pass = nullptr;
  /// [n_w][rows][outputs]: d(sum over t, i of 2^(d*i) * lsb * code) / d lsb, with rint taken as the identity: code
  /// minus (I - lo) / lsb where the clamp does not act, the code where it does. The second column of a pair counts
  /// negative.
  float* step = nullptr;
};

/// The rows [begin, end) of x [rows, inputs]; row b is access first_access + b.
void shares_of_conversions(const CrossbarMvm& mvm, const std::uint8_t* x, std::int64_t begin, std::int64_t end,
                           const ConversionShares& out, std::uint64_t first_access = 0);

/// Columns of a pair that are converted on their own: 2, else 1.
inline int converted_columns(const MvmPlan& plan) { return plan.separate_columns ? 2 : 1; }

}  // namespace cimq::kernels
