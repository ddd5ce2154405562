#include "ops/support/conv_args.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/convolution_backward.h>

#include "ops/support/checks.h"

namespace cimq::ops {

kernels::Conv2dGeometry parse_geometry(const char* op, const at::Tensor& x, const at::Tensor& w,
                                       const ConvRequest& request) {
  TORCH_CHECK_VALUE(x.dim() == 4, op, ": x must be [batch, channels, height, width], got shape ", x.sizes());
  TORCH_CHECK_VALUE(w.dim() == 4, op,
                    ": w must be [outputs, channels / groups, kernel height, kernel width], got shape ", w.sizes());
  TORCH_CHECK_VALUE(request.stride.size() == 2 && request.dilation.size() == 2 && request.padding.size() == 4, op,
                    ": needs two strides, two dilations and four paddings (left, right, top, bottom), got ",
                    request.stride.size(), ", ", request.dilation.size(), " and ", request.padding.size());
  TORCH_CHECK_VALUE(request.groups >= 1 && x.size(1) == w.size(1) * request.groups, op, ": x must have ",
                    w.size(1) * request.groups, " channels for w ", w.sizes(), " and groups=", request.groups,
                    ", got shape ", x.sizes());
  kernels::Conv2dGeometry g;
  g.in_channels = x.size(1);
  g.out_channels = w.size(0);
  g.kernel_h = w.size(2);
  g.kernel_w = w.size(3);
  g.stride_h = request.stride[0];
  g.stride_w = request.stride[1];
  g.pad_left = request.padding[0];
  g.pad_right = request.padding[1];
  g.pad_top = request.padding[2];
  g.pad_bottom = request.padding[3];
  g.dilation_h = request.dilation[0];
  g.dilation_w = request.dilation[1];
  g.groups = request.groups;
  translate_errors(op, [&] {
    kernels::check_geometry(g, op);
    kernels::check_image(g, x.size(2), x.size(3), op);
    return true;
  });
  return g;
}

namespace {

/// Whether every row of a kernel meets the image at some output.
bool all_meet(std::int64_t extent, std::int64_t kernel, std::int64_t stride, std::int64_t pad, std::int64_t dilation,
              std::int64_t outputs) {
  for (std::int64_t row = 0; row < kernel; ++row) {
    bool meets = false;
    for (std::int64_t o = 0; o < outputs && !meets; ++o) {
      const std::int64_t at = o * stride + row * dilation - pad;
      meets = at >= 0 && at < extent;
    }
    if (!meets) return false;
  }
  return true;
}

/// oneDNN (as of PyTorch 2.13) gives wrong sums, or NaN, in bf16 for dilated groups in channels-last order, and where a
/// row of the kernel never meets the image.
bool is_safe_in_bf16(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& w, const ConvRequest& request) {
  const auto& dilation = request.dilation;
  if (request.groups > 1 && (dilation[0] > 1 || dilation[1] > 1)) return false;
  return all_meet(x.size(2), w.size(2), request.stride[0], request.padding[2], dilation[0], grad.size(2)) &&
         all_meet(x.size(3), w.size(3), request.stride[1], request.padding[0], dilation[1], grad.size(3));
}

}  // namespace

ConvGradients conv_gradients(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& w,
                             const ConvRequest& request, std::array<bool, 3> wanted) {
  if (grad.scalar_type() == at::kBFloat16 && !is_safe_in_bf16(grad, x, w, request)) {
    auto [dx, dw, dbias] = conv_gradients(grad.to(at::kFloat), x.to(at::kFloat), w.to(at::kFloat), request, wanted);
    const auto rounded = [](const at::Tensor& value) { return value.defined() ? value.to(at::kBFloat16) : value; };
    return {rounded(dx), rounded(dw), rounded(dbias)};
  }
  const auto& pad = request.padding;
  // Padding beyond the kernel's reach: oneDNN (as of PyTorch 2.13) then reads beyond its operands.
  const bool within =
      pad[0] <= request.dilation[1] * (w.size(3) - 1) && pad[2] <= request.dilation[0] * (w.size(2) - 1);
  const bool even = within && pad[0] == pad[1] && pad[2] == pad[3];
  const at::Tensor padded = even ? x : at::constant_pad_nd(x, pad, 0);
  const std::vector<std::int64_t> padding =
      even ? std::vector<std::int64_t>{pad[2], pad[0]} : std::vector<std::int64_t>{0, 0};
  auto [dx, dw, dbias] = at::convolution_backward(grad, padded, w, std::vector<std::int64_t>{w.size(0)}, request.stride,
                                                  padding, request.dilation, false, {0, 0}, request.groups, wanted);
  if (wanted[0] && !even) {
    dx = dx.slice(2, pad[2], pad[2] + x.size(2)).slice(3, pad[0], pad[0] + x.size(3)).contiguous();
  }
  return {dx, dw, dbias};
}

}  // namespace cimq::ops
