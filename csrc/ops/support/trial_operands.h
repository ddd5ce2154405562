// Integers and memory for the trials of proof.h: they show saturation, wrong indices and reads beyond an operand.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "ops/support/operands.h"
#include "ops/support/proof.h"

namespace cimq::ops {

/// A dense tensor with the sizes and strides of `like` whose memory has guards on both sides, all bytes `fill`.
at::Tensor guarded(const at::Tensor& like, std::uint8_t fill);

/// Fills a dense tensor (uint8, int8, float32 or float64) with integers in `range`: half of the groups of four
/// neighbours in memory hold numbers near the largest, the others any.
void fill_activations(at::Tensor& x, const IntegerRange& range);

/// Fills a dense weight [O, C, ...] (int8, float32 or float64) with integers in `range`, none of them zero and all near
/// the largest; four channels in a row have the same sign, so that sums of pairs are as large as can be.
void fill_weights(at::Tensor& w, const IntegerRange& range);

/// How results of a library relate to the sums they stand for: unit * (sum + offsets[o]), where unit is a power of two.
struct ResultScale {
  double unit = 1.0;
  std::optional<at::Tensor> offsets;  ///< int32 [O]; [N, O, ...] results only
};

/// Compares results (float32, float64, int32 or bfloat16) with the int32 sums of the same shape, to the last bit where
/// their type holds the number.
Fault compare_sums(const at::Tensor& results, const at::Tensor& sums, const ResultScale& scale);

/// Runs the product twice on operands in guarded memory with different surroundings, the first time with memory of
/// torch's allocator (results, and what a library works in) that is not zero, and compares with `sums`.
Fault try_product(const at::Tensor& x, const at::Tensor& w, const at::Tensor& sums, const ResultScale& scale,
                  const std::function<at::Tensor(const at::Tensor& x, const at::Tensor& w)>& product);

}  // namespace cimq::ops
