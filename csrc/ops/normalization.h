// cimq::layer_norm, cimq::group_norm: normalisations whose sums have one order, so that evaluation, conversion and the
// executor agree.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace cimq::ops {

/// Call the operators.
at::Tensor layer_norm(const at::Tensor& x, at::IntArrayRef normalized_shape, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps);
at::Tensor group_norm(const at::Tensor& x, std::int64_t groups, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps);

/// Refuse operands that no device takes.
void check_layer_norm(const at::Tensor& x, at::IntArrayRef normalized_shape, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps);
void check_group_norm(const at::Tensor& x, std::int64_t groups, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps);

}  // namespace cimq::ops
