// What must hold depends on the products at hand, so the checks stand here.
#include <torch/library.h>

#include <vector>

#include "ops/support/checks.h"
#include "ops/support/digital_product.h"
#include "ops/support/own_products.h"

namespace cimq::ops {
namespace {

constexpr const char* kConv = "digital_conv2d";
constexpr const char* kMatmul = "digital_matmul";

at::Tensor digital_conv2d_cpu(const at::Tensor& x, const at::Tensor& w, std::int64_t weight_bits, std::int64_t act_bits,
                              bool act_signed, at::IntArrayRef stride, at::IntArrayRef padding,
                              at::IntArrayRef dilation, std::int64_t groups) {
  check_cpu(kConv, "x", x);
  check_cpu(kConv, "w", w);
  const ConvRequest request{stride, padding, dilation, groups};
  const kernels::Conv2dGeometry g = parse_geometry(kConv, x, w, request);
  const IntegerRange x_range = activation_range(act_bits, act_signed);
  const IntegerRange w_range = weight_range(weight_bits);
  TORCH_CHECK_VALUE(float_sums_are_exact(g.inputs_per_output(), x_range, w_range), kConv, ": sums of ",
                    g.inputs_per_output(), " products of ", weight_bits, " and ", act_bits,
                    " bits are not exact in float32");
  const at::MemoryFormat format = x.suggest_memory_format();
  if (const auto y = digital_conv2d(kConv, x.to(at::kFloat), w.to(at::kFloat), request, x_range, w_range)) {
    return y->contiguous(format);
  }
  return own_conv2d(kConv, narrowed(kConv, "x", x, x_range), narrowed(kConv, "w", w, w_range), request)
      .to(at::kFloat)
      .contiguous(format);
}

at::Tensor digital_matmul_cpu(const at::Tensor& x, const at::Tensor& w, std::int64_t weight_bits, std::int64_t act_bits,
                              bool act_signed) {
  check_cpu(kMatmul, "x", x);
  check_cpu(kMatmul, "w", w);
  const std::int64_t dims = x.dim();
  TORCH_CHECK_VALUE(dims >= 2 && w.dim() == dims && x.size(-1) == w.size(-1) &&
                        x.sizes().slice(0, dims - 2) == w.sizes().slice(0, dims - 2),
                    kMatmul, ": x must be [..., rows, inputs] and w [..., outputs, inputs], got ", x.sizes(), " and ",
                    w.sizes());
  const IntegerRange x_range = activation_range(act_bits, act_signed);
  const IntegerRange w_range = weight_range(weight_bits);
  if (dims == 2) return digital_products(kMatmul, x, w, x_range, w_range);
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  shape.back() = w.size(-2);
  std::int64_t matrices = 1;
  for (std::int64_t d = 0; d < dims - 2; ++d) matrices *= x.size(d);
  return digital_products(kMatmul, x.reshape({matrices, x.size(-2), x.size(-1)}),
                          w.reshape({matrices, w.size(-2), w.size(-1)}), x_range, w_range)
      .reshape(shape);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("digital_conv2d", TORCH_FN(cimq::ops::digital_conv2d_cpu));
  m.impl("digital_matmul", TORCH_FN(cimq::ops::digital_matmul_cpu));
}
