#include "ops/support/digital_product.h"

#include <ATen/Context.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mkldnn_convolution.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "ops/support/own_products.h"
#include "ops/support/proof.h"
#include "ops/support/trial_operands.h"

namespace cimq::ops {
namespace {

void add_ranges(ProductGeometry& geometry, const IntegerRange& x_range, const IntegerRange& w_range) {
  geometry.add("x within", {x_range.lo, x_range.hi}).add("w within", {w_range.lo, w_range.hi});
}

/// Integers of a range as cimq's own kernels take them.
at::Tensor as_bytes(const at::Tensor& integers, const IntegerRange& range) {
  return integers.to(range.lo < 0 ? at::kChar : at::kByte);
}

/// The values of a trial: those of a type, as the largest sums hold with it.
struct Operands {
  at::Tensor x;
  at::Tensor w;
};

Operands trial_operands(const at::Tensor& x_like, const at::Tensor& w_like, const IntegerRange& x_range,
                        const IntegerRange& w_range) {
  Operands made{at::empty_like(x_like), at::empty_like(w_like)};
  fill_activations(made.x, x_range);
  fill_weights(made.w, w_range);
  return made;
}

/// Of three dimensions: matrix by matrix.
at::Tensor call_matmul(const at::Tensor& x, const at::Tensor& w) {
  at::Tensor y = x.dim() == 2 ? at::mm(x, w.t()) : at::bmm(x, w.transpose(1, 2));
  apply_disturbance(Primitive::kFloatMatmul, x, y, [] { return 1.0; });
  return y;
}

/// x . w^T of float32 or float64 matrices, or stacks of them, whose sums that type holds; nothing where it is not
/// exact.
std::optional<at::Tensor> proven_matmul(const char* op, const at::Tensor& x_any, const at::Tensor& w_any,
                                        const IntegerRange& x_range, const IntegerRange& w_range) {
  const at::Tensor x = x_any.contiguous();
  const at::Tensor w = w_any.contiguous();
  if (x.numel() == 0 || w.numel() == 0) return call_matmul(x, w);
  ProductGeometry geometry(Primitive::kFloatMatmul);
  geometry.add("x", x.sizes()).add("w", w.sizes()).add("bytes", static_cast<std::int64_t>(x.element_size()));
  add_ranges(geometry, x_range, w_range);
  const auto trial = [&] {
    const Operands made = trial_operands(x, w, x_range, w_range);
    const at::Tensor sums = own_matmul(op, as_bytes(made.x, x_range), made.w.to(at::kChar));
    return try_product(made.x, made.w, sums, {}, call_matmul);
  };
  return proven(geometry, trial) ? std::optional<at::Tensor>(call_matmul(x, w)) : std::nullopt;
}

}  // namespace

bool prefers_int8(const at::Tensor& x, const at::Tensor& w, std::int64_t outputs, std::int64_t results) {
  constexpr std::int64_t kPanel = 64;
  constexpr std::int64_t kMostCopies = std::int64_t{48} << 20;
  if (x.is_floating_point() || w.is_floating_point()) return false;
  return (outputs >= kPanel && kernels::cpu::has_fast_products()) ||
         4 * (x.numel() + w.numel() + results) > kMostCopies;
}

at::Tensor digital_product(const char* op, const at::Tensor& x, const at::Tensor& w, const IntegerRange& x_range,
                           const IntegerRange& w_range) {
  const std::int64_t inputs = x.size(1);
  const auto own = [&] { return own_matmul(op, as_bytes(x, x_range), w.to(at::kChar)); };
  if (float_sums_are_exact(inputs, x_range, w_range)) {
    const std::optional<at::Tensor> y = proven_matmul(op, x, w, x_range, w_range);
    return y ? *y : own().to(at::kFloat);
  }
  const std::int64_t piece = kFloatExact / largest_term(x_range, w_range);
  at::Tensor sum = at::zeros({x.size(0), w.size(0)}, x.options().dtype(at::kInt));
  for (std::int64_t begin = 0; begin < inputs; begin += piece) {
    const std::int64_t end = std::min(begin + piece, inputs);
    const auto part = proven_matmul(op, x.slice(1, begin, end), w.slice(1, begin, end), x_range, w_range);
    if (!part) return own();
    sum.add_(part->to(at::kInt));
  }
  return sum;
}

at::Tensor digital_products(const char* op, const at::Tensor& x, const at::Tensor& w, const IntegerRange& x_range,
                            const IntegerRange& w_range) {
  const bool floats = float_sums_are_exact(x.size(-1), x_range, w_range);
  const auto type = floats ? at::kFloat : at::kDouble;
  const auto found = floats ? at::kFloat : at::kInt;
  if (const auto y = proven_matmul(op, x.to(type), w.to(type), x_range, w_range)) return y->to(found);
  return own_matmul(op, narrowed(op, "x", x, x_range), narrowed(op, "w", w, w_range)).to(found);
}

std::optional<at::Tensor> digital_conv2d(const char* op, const at::Tensor& x, const at::Tensor& w,
                                         const ConvRequest& request, const IntegerRange& x_range,
                                         const IntegerRange& w_range) {
#if defined(__x86_64__)
  // oneDNN's direct algorithm: sums of products in some order. Other builds may choose others.
  if (!at::globalContext().hasMKLDNN() || !at::globalContext().userEnabledMkldnn() || x.size(0) == 0) {
    return std::nullopt;
  }
  const auto& pad = request.padding;
  // Padding beyond the kernel's reach: oneDNN (as of PyTorch 2.13) may then read beyond its operands.
  const bool within =
      pad[0] <= request.dilation[1] * (w.size(3) - 1) && pad[2] <= request.dilation[0] * (w.size(2) - 1);
  const bool even = within && pad[0] == pad[1] && pad[2] == pad[3];
  const at::Tensor padded = even ? x : at::constant_pad_nd(x, pad, 0);
  const at::Tensor images = padded.contiguous(padded.suggest_memory_format());
  const at::Tensor weights = w.contiguous(w.suggest_memory_format());
  const std::vector<std::int64_t> padding =
      even ? std::vector<std::int64_t>{pad[2], pad[0]} : std::vector<std::int64_t>{0, 0};
  const auto convolve = [&](const at::Tensor& codes, const at::Tensor& kernel) {
    at::Tensor y = at::mkldnn_convolution(codes, kernel, {}, padding, request.stride, request.dilation, request.groups);
    apply_disturbance(Primitive::kFloatConv2d, codes, y, [] { return 1.0; });
    return y;
  };
  ProductGeometry geometry(Primitive::kFloatConv2d);
  geometry.add("x", images.sizes()).add("w", weights.sizes()).add("stride", request.stride);
  geometry.add("padding", padding).add("dilation", request.dilation).add("groups", request.groups);
  geometry.add("x strides", images.strides()).add("w strides", weights.strides());
  add_ranges(geometry, x_range, w_range);
  const auto trial = [&] {
    const Operands made = trial_operands(images, weights, x_range, w_range);
    const std::vector<std::int64_t> sides{padding[1], padding[1], padding[0], padding[0]};
    const at::Tensor sums = own_conv2d(op, as_bytes(made.x, x_range), made.w.to(at::kChar),
                                       {request.stride, sides, request.dilation, request.groups});
    return try_product(made.x, made.w, sums, {}, convolve);
  };
  return proven(geometry, trial) ? std::optional<at::Tensor>(convolve(images, weights)) : std::nullopt;
#else
  (void)op;
  (void)x;
  (void)w;
  (void)request;
  (void)x_range;
  (void)w_range;
  return std::nullopt;
#endif
}

}  // namespace cimq::ops
