// cimq::quantize: float values to the integers that a crossbar takes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "ops/support/quantizer_args.h"

namespace cimq::ops {

/// Refuses types and ranges that no device takes, and what `check` does: check_quantizer, or check_quantizer_shapes
/// where the values of `scale` are not to be read.
ScaledRows check_quantize(QuantizerCheck& check, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                          std::int64_t qmax, std::optional<std::int64_t> axis, bool binary);

/// Throws the error of a float32 x with NaN or infinite values, which names the first; x is on the CPU.
[[noreturn]] void refuse_non_finite(const at::Tensor& x);

}  // namespace cimq::ops
