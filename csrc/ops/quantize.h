// cimq::quantize: float values to the integers that a crossbar takes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "ops/support/quantizer_args.h"

namespace cimq::ops {

/// Refuses operands that no device takes.
ScaledRows check_quantize(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                          std::optional<std::int64_t> axis, bool binary);

}  // namespace cimq::ops
