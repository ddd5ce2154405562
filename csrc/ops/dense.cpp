#include "ops/dense.h"

#include <torch/library.h>

#include "ops/support/checks.h"
#include "ops/support/dispatch.h"

namespace cimq::ops {
namespace {

constexpr const char* kLinear = "linear_f32";
constexpr const char* kConv = "conv2d_f32";

}  // namespace

at::Tensor linear_f32(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias) {
  static const auto kOp = typed_op<decltype(linear_f32)>("cimq::linear_f32");
  return kOp.call(x, w, bias);
}

at::Tensor conv2d_f32(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                      at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups) {
  static const auto kOp = typed_op<decltype(conv2d_f32)>("cimq::conv2d_f32");
  return kOp.call(x, w, bias, stride, padding, dilation, groups);
}

void check_linear(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias) {
  check_float(kLinear, "x", x);
  check_float(kLinear, "w", w);
  TORCH_CHECK_VALUE(w.dim() == 2 && x.dim() >= 1 && x.size(-1) == w.size(1), kLinear,
                    ": needs x [..., inputs] and w [outputs, inputs], got ", x.sizes(), " and ", w.sizes());
  check_parameter(kLinear, "bias", bias, {w.size(0)});
  TORCH_CHECK_VALUE(w.size(1) > 0, kLinear, ": needs at least one input, got w ", w.sizes());
}

kernels::Conv2dGeometry check_conv2d(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                                     const ConvRequest& request) {
  check_float(kConv, "x", x);
  check_float(kConv, "w", w);
  const kernels::Conv2dGeometry geometry = parse_geometry(kConv, x, w, request);
  check_parameter(kConv, "bias", bias, {w.size(0)});
  return geometry;
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("linear_f32(Tensor x, Tensor w, Tensor? bias=None) -> Tensor");
  m.def(
      "conv2d_f32(Tensor x, Tensor w, Tensor? bias=None, int[] stride=[1, 1], int[] padding=[0, 0, 0, 0], "
      "int[] dilation=[1, 1], int groups=1) -> Tensor");
}
