#include "ops/fake_quantize.h"

#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/fake_quantize.h"
#include "ops/support/checks.h"
#include "ops/support/quantizer_gradients.h"
#include "ops/support/quantizer_types.h"

namespace cimq::ops {
namespace {

constexpr const char* kForward = "fake_quantize";
constexpr const char* kBackward = "fake_quantize_backward";

using Axis = std::optional<std::int64_t>;

template <typename T>
void forward_blocks(const at::Tensor& x, const at::Tensor& scale, const ScaledRows& rows,
                    const kernels::QuantRange& range, at::Tensor& y) {
  const auto* source = static_cast<const T*>(x.const_data_ptr());
  const auto* scales = scale.const_data_ptr<kernels::Computed<T>>();
  auto* target = static_cast<T*>(y.mutable_data_ptr());
  rows.for_each_block([&](std::int64_t, std::int64_t channel, std::int64_t begin, std::int64_t count) {
    kernels::cpu::fake_quantize(source + begin, count, scales[channel], range, target + begin);
  });
}

at::Tensor fake_quantize_cpu(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                             Axis axis, std::optional<double> /*grad_scale*/, bool binary) {
  const ScaledRows rows = check_quantizer(kForward, x, scale, qmin, qmax, axis, binary);
  const at::ScalarType type = stored_type(x.scalar_type());
  const at::Tensor source = quantizer_operand(x, type, rows);
  const at::Tensor scales = scale.contiguous();
  at::Tensor y = at::empty_like(source);
  const auto range = quant_range(qmin, qmax, binary);
  with_stored_type(type, [&]<typename T>(T) { forward_blocks<T>(source, scales, rows, range, y); });
  return y.to(x.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> fake_quantize_backward_cpu(const at::Tensor& grad, const at::Tensor& x,
                                                              const at::Tensor& scale, std::int64_t qmin,
                                                              std::int64_t qmax, Axis axis,
                                                              std::optional<double> grad_scale, bool binary) {
  const ScaledRows rows = check_quantizer(kBackward, x, scale, qmin, qmax, axis, binary);
  TORCH_CHECK_VALUE(grad.sizes() == x.sizes(), kBackward, ": grad must have x's shape ", x.sizes(), ", got ",
                    grad.sizes());
  const double factor = grad_scale.value_or(lsq_gradient_factor(x, rows, qmax));
  const QuantizerGradients result =
      quantizer_gradients(grad, x, scale, rows, quant_range(qmin, qmax, binary), factor, GradientUse::kRead);
  return {result.x, result.scale};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("fake_quantize", TORCH_FN(cimq::ops::fake_quantize_cpu));
  m.impl("fake_quantize_backward", TORCH_FN(cimq::ops::fake_quantize_backward_cpu));
}
