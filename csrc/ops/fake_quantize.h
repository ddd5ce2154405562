// cimq::fake_quantize, its backward and their autograd (LSQ, Esser et al., "Learned step size quantization", 2020).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace cimq::ops {

/// Call the operators.
at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                         std::optional<std::int64_t> axis, std::optional<double> grad_scale, bool binary);
std::tuple<at::Tensor, at::Tensor> fake_quantize_backward(const at::Tensor& grad, const at::Tensor& x,
                                                          const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                                          std::optional<std::int64_t> axis,
                                                          std::optional<double> grad_scale, bool binary);

}  // namespace cimq::ops
