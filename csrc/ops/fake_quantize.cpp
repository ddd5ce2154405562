#include "ops/fake_quantize.h"

#include <torch/library.h>

#include "ops/support/dispatch.h"

namespace cimq::ops {

at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                         std::optional<std::int64_t> axis, std::optional<double> grad_scale, bool binary) {
  static const auto kOp = typed_op<decltype(fake_quantize)>("cimq::fake_quantize");
  return kOp.call(x, scale, qmin, qmax, axis, grad_scale, binary);
}

std::tuple<at::Tensor, at::Tensor> fake_quantize_backward(const at::Tensor& grad, const at::Tensor& x,
                                                          const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                                          std::optional<std::int64_t> axis,
                                                          std::optional<double> grad_scale, bool binary) {
  static const auto kOp = typed_op<decltype(fake_quantize_backward)>("cimq::fake_quantize_backward");
  return kOp.call(grad, x, scale, qmin, qmax, axis, grad_scale, binary);
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "fake_quantize(Tensor x, Tensor scale, int qmin, int qmax, int? axis=None, float? grad_scale=None, "
      "bool binary=False) -> Tensor");
  m.def(
      "fake_quantize_backward(Tensor grad, Tensor x, Tensor scale, int qmin, int qmax, int? axis=None, "
      "float? grad_scale=None, bool binary=False) -> (Tensor, Tensor)");
}
