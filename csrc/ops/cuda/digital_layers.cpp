// Products of integers by int8 tensor cores, which are exact whatever torch's settings: a library's products of floats
// may be in TF32, or by an algorithm that does more than add up products.
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <vector>

#include "ops/cuda/integer_call.h"
#include "ops/support/conv_args.h"
#include "ops/support/exact_sums.h"

namespace cimq::ops {
namespace {

using kernels::cuda::IntegerRanges;
using kernels::cuda::IntegerShape;

constexpr const char* kConv = "digital_conv2d";
constexpr const char* kMatmul = "digital_matmul";

IntegerRanges ranges_of(std::int64_t weight_bits, std::int64_t act_bits, bool act_signed) {
  return {activation_range(act_bits, act_signed), weight_range(weight_bits)};
}

at::Tensor digital_conv2d_cuda(const at::Tensor& x, const at::Tensor& w, std::int64_t weight_bits,
                               std::int64_t act_bits, bool act_signed, at::IntArrayRef stride, at::IntArrayRef padding,
                               at::IntArrayRef dilation, std::int64_t groups) {
  check_cuda(kConv, "x", x, x);
  check_cuda(kConv, "w", w, x);
  const kernels::Conv2dGeometry g = parse_geometry(kConv, x, w, {stride, padding, dilation, groups});
  const IntegerRanges ranges = ranges_of(weight_bits, act_bits, act_signed);
  TORCH_CHECK_VALUE(float_sums_are_exact(g.inputs_per_output(), ranges.x, ranges.w), kConv, ": sums of ",
                    g.inputs_per_output(), " products of ", weight_bits, " and ", act_bits,
                    " bits are not exact in float32");
  const DeviceCall call(x);
  const at::MemoryFormat format = x.suggest_memory_format();
  at::Tensor y =
      at::empty({x.size(0), w.size(0), g.out_h(x.size(2)), g.out_w(x.size(3))}, x.options().dtype(at::kFloat), format);
  IntegerShape shape;
  shape.geometry = g;
  shape.batch = x.size(0);
  shape.h = x.size(2);
  shape.w = x.size(3);
  shape.channels_last = format == at::MemoryFormat::ChannelsLast;
  integer_product(kConv, call, shape, x.to(at::kFloat), w.to(at::kFloat), ranges, y);
  return y;
}

at::Tensor digital_matmul_cuda(const at::Tensor& x, const at::Tensor& w, std::int64_t weight_bits,
                               std::int64_t act_bits, bool act_signed) {
  check_cuda(kMatmul, "x", x, x);
  check_cuda(kMatmul, "w", w, x);
  const std::int64_t dims = x.dim();
  TORCH_CHECK_VALUE(dims >= 2 && w.dim() == dims && x.size(-1) == w.size(-1) &&
                        x.sizes().slice(0, dims - 2) == w.sizes().slice(0, dims - 2),
                    kMatmul, ": x must be [..., rows, inputs] and w [..., outputs, inputs], got ", x.sizes(), " and ",
                    w.sizes());
  const IntegerRanges ranges = ranges_of(weight_bits, act_bits, act_signed);
  const bool floats = float_sums_are_exact(x.size(-1), ranges.x, ranges.w);
  const DeviceCall call(x);
  std::vector<std::int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes.back() = w.size(-2);
  const auto options = x.options().dtype(floats ? at::kFloat : at::kInt);
  if (x.numel() == 0 || w.numel() == 0) return at::zeros(sizes, options);
  at::Tensor y = at::empty(sizes, options);
  const std::int64_t inputs = x.size(-1);
  const auto rows_of = [&](const at::Tensor& matrices) {
    return matrices.to(at::kFloat).reshape({-1, inputs}).contiguous();
  };
  const std::int64_t matrices = x.numel() / (x.size(-2) * inputs);
  integer_product(kMatmul, call, kernels::cuda::matrices_shape(matrices, x.size(-2), inputs, w.size(-2)), rows_of(x),
                  rows_of(w), ranges, y);
  return y;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  m.impl("digital_conv2d", TORCH_FN(cimq::ops::digital_conv2d_cuda));
  m.impl("digital_matmul", TORCH_FN(cimq::ops::digital_matmul_cuda));
}
