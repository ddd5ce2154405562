#include "ops/support/crossbar_backward.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "ops/support/checks.h"

namespace cimq::ops {

at::ScalarType check_backward(const char* op, const at::Tensor& grad, at::IntArrayRef shape, const TakenCall& taken) {
  TORCH_CHECK_VALUE(grad.sizes() == shape && grad.is_floating_point(), op, ": grad must be a floating tensor of shape ",
                    shape, ", got ", describe(grad));
  TORCH_CHECK_VALUE(!taken.wanted.adc_lsb || taken.call.adc_lsb.has_value(), op,
                    ": the gradient of adc_lsb is wanted, but it is not given");
  return grad.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor step_gradient(const at::Tensor& grad, const TakenCall& taken, const std::vector<double>& sums) {
  const auto& adc_lsb = taken.call.adc_lsb;
  if (!adc_lsb.has_value()) return at::empty({0}, grad.options());
  if (!taken.wanted.adc_lsb) return at::empty({0}, adc_lsb->options());
  return at::tensor(sums, at::kDouble).to(adc_lsb->scalar_type()).view(adc_lsb->sizes());
}

}  // namespace cimq::ops
