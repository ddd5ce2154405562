#include "ops/fake_quantize.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/fake_quantize.h"
#include "ops/cuda/device_call.h"
#include "ops/support/quantizer_types.h"

namespace cimq::ops {
namespace {

constexpr const char* kForward = "fake_quantize";
constexpr const char* kBackward = "fake_quantize_backward";

using Axis = std::optional<std::int64_t>;

// Values of `scale` are not read here, as that would wait for the device: kernels turn what an unusable one gives into
// NaN.
ScaledRows check_operands(const char* op, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                          std::int64_t qmax, Axis axis, bool binary) {
  check_cuda(op, "x", x, x);
  check_cuda(op, "scale", scale, x);
  return check_quantizer_shapes(op, x, scale, qmin, qmax, axis, binary);
}

at::Tensor fake_quantize_cuda(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                              Axis axis, std::optional<double> /*grad_scale*/, bool binary) {
  const ScaledRows rows = check_operands(kForward, x, scale, qmin, qmax, axis, binary);
  const DeviceCall call(x);
  const at::ScalarType type = stored_type(x.scalar_type());
  const at::Tensor source = quantizer_operand(x, type, rows);
  const at::Tensor scales = scale.contiguous();
  at::Tensor y = at::empty_like(source);
  with_stored_type(type, [&]<typename T>(T) {
    call.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::fake_quantize(static_cast<const T*>(source.const_data_ptr()), scaled_values(rows),
                                   scales.const_data_ptr<kernels::Computed<T>>(), quant_range(qmin, qmax, binary),
                                   static_cast<T*>(y.mutable_data_ptr()), stream);
    });
  });
  return y.to(x.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> fake_quantize_backward_cuda(const at::Tensor& grad, const at::Tensor& x,
                                                               const at::Tensor& scale, std::int64_t qmin,
                                                               std::int64_t qmax, Axis axis,
                                                               std::optional<double> grad_scale, bool binary) {
  const ScaledRows rows = check_operands(kBackward, x, scale, qmin, qmax, axis, binary);
  check_cuda(kBackward, "grad", grad, x);
  TORCH_CHECK_VALUE(grad.sizes() == x.sizes(), kBackward, ": grad must have x's shape ", x.sizes(), ", got ",
                    grad.sizes());
  const DeviceCall call(x);
  // Autograd gives grad in x's type. Any other is read as what the sums are computed in, so that it loses no bit.
  at::ScalarType type = stored_type(x.scalar_type());
  if (type != at::kDouble && grad.scalar_type() != type) type = at::kFloat;
  const at::Tensor source = quantizer_operand(x, type, rows);
  at::Tensor upstream = grad.to(type);
  if (upstream.strides() != source.strides()) upstream = at::empty_like(source).copy_(upstream);
  const at::Tensor scales = scale.contiguous();
  at::Tensor dx = at::empty_like(source);
  at::Tensor dscale = at::empty(scale.sizes(), scale.options());
  const kernels::ScaledValues values = scaled_values(rows);
  const at::Tensor scratch =
      at::empty({kernels::cuda::fake_quantize_backward_scratch(values)}, scale.options().dtype(at::kDouble));
  const double factor = grad_scale.value_or(lsq_gradient_factor(x, rows, qmax));
  with_stored_type(type, [&]<typename T>(T) {
    call.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::fake_quantize_backward(
          static_cast<const T*>(upstream.const_data_ptr()), static_cast<const T*>(source.const_data_ptr()), values,
          scales.const_data_ptr<kernels::Computed<T>>(), quant_range(qmin, qmax, binary), factor,
          static_cast<T*>(dx.mutable_data_ptr()), static_cast<T*>(nullptr),
          dscale.mutable_data_ptr<kernels::Computed<T>>(), scratch.mutable_data_ptr<double>(), stream);
    });
  });
  return {dx.to(x.scalar_type()), dscale};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  m.impl("fake_quantize", TORCH_FN(cimq::ops::fake_quantize_cuda));
  m.impl("fake_quantize_backward", TORCH_FN(cimq::ops::fake_quantize_backward_cuda));
}
