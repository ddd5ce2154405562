#include "ops/support/quantizer_args.h"

#include <algorithm>
#include <cmath>

#include "common/rounding.h"
#include "kernels/formula/fake_quantize.h"
#include "ops/support/checks.h"
#include "ops/support/quantizer_types.h"

namespace cimq::ops {

std::int64_t ScaledRows::grain() const {
  // Below about 32k values a second thread costs more than it brings.
  const std::int64_t per_block = std::max<std::int64_t>(1, std::min(inner, kBlock));
  return std::max<std::int64_t>(1, (std::int64_t{1} << 15) / per_block);
}

kernels::QuantRange quant_range(std::int64_t qmin, std::int64_t qmax, bool binary) {
  return {static_cast<int>(qmin), static_cast<int>(qmax), binary};
}

ScaledRows check_quantizer_shapes(const char* op, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                                  std::int64_t qmax, std::optional<std::int64_t> axis, bool binary) {
  TORCH_CHECK_TYPE(x.is_floating_point(), op, ": x must be a floating-point tensor, got ", describe(x));
  const auto scale_type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_TYPE(scale.scalar_type() == scale_type, op, ": scale must be ", c10::toString(scale_type), " for a ",
                   c10::toString(x.scalar_type()), " x, got ", describe(scale));
  TORCH_CHECK_VALUE(qmin < qmax && qmax > 0, op, ": needs qmin < qmax and qmax > 0, got qmin=", qmin, " qmax=", qmax);
  TORCH_CHECK_VALUE(-qmin <= kernels::kMaxQuantizedValue && qmax <= kernels::kMaxQuantizedValue, op,
                    ": qmin and qmax must be within +-", kernels::kMaxQuantizedValue, ", got qmin=", qmin,
                    " qmax=", qmax);
  TORCH_CHECK_VALUE(!binary || (qmin == -1 && qmax == 1), op, ": binary needs qmin=-1 and qmax=1, got qmin=", qmin,
                    " qmax=", qmax);
  ScaledRows rows;
  rows.per_tensor = !axis.has_value();
  if (axis.has_value()) {
    const std::int64_t dims = x.dim();
    TORCH_CHECK_VALUE(*axis >= -dims && *axis < dims, op, ": axis must be in [", -dims, ", ", dims - 1, "] for x ",
                      x.sizes(), ", got ", *axis);
    const std::int64_t channel_axis = *axis < 0 ? *axis + dims : *axis;
    rows.channels = x.size(channel_axis);
    rows.by_first_axis = channel_axis == 0;
    TORCH_CHECK_VALUE(scale.dim() == 1 && scale.size(0) == rows.channels, op, ": scale must have shape [",
                      rows.channels, "] for axis ", *axis, " of x ", x.sizes(), ", got ", scale.sizes());
    rows.rows = 1;
    rows.inner = 1;
    for (std::int64_t d = 0; d <= channel_axis; ++d) rows.rows *= x.size(d);
    for (std::int64_t d = channel_axis + 1; d < dims; ++d) rows.inner *= x.size(d);
  } else {
    TORCH_CHECK_VALUE(scale.numel() == 1, op, ": scale must have one element without axis, got ", scale.sizes());
    rows.inner = x.numel();
  }
  rows.blocks_per_row = std::max<std::int64_t>(1, ceil_div(rows.inner, ScaledRows::kBlock));
  return rows;
}

ScaledRows check_quantizer(const char* op, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                           std::int64_t qmax, std::optional<std::int64_t> axis, bool binary) {
  check_cpu(op, "x", x);
  check_cpu(op, "scale", scale);
  const ScaledRows rows = check_quantizer_shapes(op, x, scale, qmin, qmax, axis, binary);
  const at::Tensor scales = scale.contiguous();
  const auto check = [&](const auto* values) {
    for (std::int64_t c = 0; c < scales.numel(); ++c) {
      TORCH_CHECK_VALUE(std::isfinite(values[c]) && values[c] > 0, op, ": scale must be positive and finite, got ",
                        values[c], " at index ", c);
    }
  };
  scale.scalar_type() == at::kDouble ? check(scales.const_data_ptr<double>()) : check(scales.const_data_ptr<float>());
  return rows;
}

double lsq_gradient_factor(const at::Tensor& x, const ScaledRows& rows, std::int64_t qmax) {
  const std::int64_t per_scale = x.numel() / std::max<std::int64_t>(1, rows.channels);
  return 1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, per_scale) * qmax));
}

at::Tensor walkable(const at::Tensor& x, bool per_tensor) {
  return per_tensor && x.is_non_overlapping_and_dense() ? x : x.contiguous();
}

at::Tensor quantizer_operand(const at::Tensor& x, at::ScalarType type, const ScaledRows& rows) {
  at::Tensor values = x.to(type);
  const bool dense = values.is_non_overlapping_and_dense();
  // Channels that lie one after another are rows, whatever the order within them: weights stay in channels-last order.
  if (rows.by_first_axis && dense && values.stride(0) * values.size(0) == values.numel()) return values;
  const bool copied = rows.per_tensor && values.element_size() == 2 && !dense;
  return walkable(copied ? values.clone() : values, rows.per_tensor);
}

}  // namespace cimq::ops
