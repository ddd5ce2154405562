// What the converters of programmed crossbars do with given inputs, conversion by conversion: which codes they give,
// where the clamp acts, and what gradients need of it (docs/numbers.md). These are the results, whatever the device;
// cpu/convert/conversions.h makes them.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/plan/mvm_plan.h"

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

/// What gradients need of every conversion; a null pointer is left out. rows = batch of the whole arrays.
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

/// Columns of a pair that are converted on their own: 2, else 1.
inline int converted_columns(const MvmPlan& plan) { return plan.separate_columns ? 2 : 1; }

}  // namespace cimq::kernels
