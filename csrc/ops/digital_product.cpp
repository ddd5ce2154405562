#include "ops/digital_product.h"

#include <ATen/Context.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/mkldnn_convolution.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "kernels/crossbar_mvm.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kFloatExact = std::int64_t{1} << 24;  // float32 holds every integer up to here

std::int64_t largest_term(const IntegerRange& x_range, const IntegerRange& w_range) {
  return std::max(-x_range.lo, x_range.hi) * std::max(-w_range.lo, w_range.hi);
}

}  // namespace

bool float_sums_are_exact(std::int64_t inputs, const IntegerRange& x_range, const IntegerRange& w_range) {
  return inputs <= kFloatExact / largest_term(x_range, w_range);
}

bool prefers_int8(const at::Tensor& x, const at::Tensor& w, std::int64_t outputs, std::int64_t results) {
  constexpr std::int64_t kPanel = 64;
  constexpr std::int64_t kMostCopies = std::int64_t{48} << 20;
  if (x.is_floating_point() || w.is_floating_point()) return false;
  return (outputs >= kPanel && kernels::has_fast_products()) || 4 * (x.numel() + w.numel() + results) > kMostCopies;
}

at::Tensor digital_product(const at::Tensor& x, const at::Tensor& w, const IntegerRange& x_range,
                           const IntegerRange& w_range) {
  const std::int64_t inputs = x.size(1);
  if (float_sums_are_exact(inputs, x_range, w_range)) return at::mm(x, w.t());
  const std::int64_t piece = kFloatExact / largest_term(x_range, w_range);
  at::Tensor sum = at::zeros({x.size(0), w.size(0)}, x.options().dtype(at::kInt));
  for (std::int64_t begin = 0; begin < inputs; begin += piece) {
    const std::int64_t end = std::min(begin + piece, inputs);
    sum.add_(at::mm(x.slice(1, begin, end), w.slice(1, begin, end).t()).to(at::kInt));
  }
  return sum;
}

std::optional<at::Tensor> digital_conv2d(const at::Tensor& x, const at::Tensor& w, const ConvRequest& request) {
#if defined(__x86_64__)
  // oneDNN's direct algorithm: sums of products in some order. Other builds may choose others.
  if (!at::globalContext().hasMKLDNN() || !at::globalContext().userEnabledMkldnn() || x.size(0) == 0) {
    return std::nullopt;
  }
  const auto& pad = request.padding;
  const bool even = pad[0] == pad[1] && pad[2] == pad[3];
  const at::Tensor padded = even ? x : at::constant_pad_nd(x, pad, 0);
  const std::vector<std::int64_t> padding =
      even ? std::vector<std::int64_t>{pad[2], pad[0]} : std::vector<std::int64_t>{0, 0};
  return at::mkldnn_convolution(padded, w, {}, padding, request.stride, request.dilation, request.groups);
#else
  (void)x;
  (void)w;
  (void)request;
  return std::nullopt;
#endif
}

}  // namespace cimq::ops
