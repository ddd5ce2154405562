#include "ops/support/onednn_conv2d.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <string>
#include <vector>

#include "kernels/cpu/isa/processor.h"
#include "ops/support/exact_products.h"
#include "ops/support/own_products.h"
#include "ops/support/proof.h"
#include "ops/support/trial_operands.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kMaxCode = 255;
constexpr std::int64_t kMaxWeight = 127;
constexpr std::int64_t kSignBit = 0x80;

/// Whether it is worth a trial: without VNNI oneDNN adds pairs of products in 16 bits, which saturate. Of the machine:
/// oneDNN knows nothing of the instruction sets that cimq's kernels are held to.
bool may_be_exact() { return kernels::cpu::machine().avx512_vnni; }

/// PyTorch's own operators of quantised models; called by name, as they have no C++ interface.
at::Tensor call_onednn(const char* op, const char* name, c10::Stack stack) {
  const auto found = c10::Dispatcher::singleton().findSchema({name, ""});
  TORCH_CHECK(found.has_value(), op, ": this build of PyTorch has no ", name, "; use fake_quantize and conv2d instead");
  found->callBoxed(stack);
  return stack.at(0).toTensor();
}

/// oneDNN (as of PyTorch 2.13) reads beyond its operands where a window of the kernel can lie in the padding,
/// and takes wrong sums for such windows where the input has a zero point. Then the padding is put into the input.
bool needs_padded_input(const at::Tensor& w, std::int64_t shift, const ConvRequest& request) {
  const std::int64_t reach_h = request.dilation[0] * (w.size(2) - 1);
  const std::int64_t reach_w = request.dilation[1] * (w.size(3) - 1);
  const bool padded = request.padding[0] > 0 || request.padding[2] > 0;
  return padded && (shift != 0 || request.padding[2] > reach_h || request.padding[0] > reach_w);
}

/// The operands of one product of the library; the padding may have gone into x.
struct LibraryProduct {
  double scale;
  std::int64_t shift;
  std::vector<std::int64_t> stride;
  std::vector<std::int64_t> padding;  ///< (vertical, horizontal), the same on both sides
  std::vector<std::int64_t> dilation;
  std::int64_t groups;
  at::ScalarType dtype;
};

at::Tensor call_convolution(const char* op, const at::Tensor& x, const at::Tensor& w, const at::Tensor& w_scale,
                            const at::Tensor& bias, const LibraryProduct& product) {
  const c10::List<std::int64_t> stride(product.stride);
  const c10::List<std::int64_t> padding(product.padding);
  const c10::List<std::int64_t> dilation(product.dilation);
  // The order of the packed weight does not depend on its scales; of many, prepacking would look at each one.
  const at::Tensor one = at::ones({1}, w_scale.options());
  const at::Tensor packed =
      call_onednn(op, "onednn::qconv_prepack",
                  {w, one, product.scale, product.shift, stride, padding, dilation, product.groups, x.sizes().vec()});
  const at::Tensor zeros = at::zeros(w_scale.sizes(), w_scale.options().dtype(at::kInt));
  constexpr double kNoScale = 1.0;
  constexpr std::int64_t kNoZero = 0;
  at::Tensor y = call_onednn(op, "onednn::qconv2d_pointwise",
                             {x, product.scale, product.shift, packed, w_scale.contiguous(), zeros,
                              bias.defined() ? c10::IValue(bias) : c10::IValue(), stride, padding, dilation,
                              product.groups, kNoScale, kNoZero, static_cast<std::int64_t>(product.dtype),
                              std::string("none"), c10::List<std::optional<at::Scalar>>(), c10::IValue()});
  apply_disturbance(Primitive::kInt8Conv2d, x, y, [&] { return product.scale * w_scale[0].item<double>(); });
  return y;
}

/// Codes that stand for codes - shift, as cimq's own kernels take them.
at::Tensor signed_codes(const at::Tensor& codes, std::int64_t shift) {
  return shift == 0 ? codes : codes.bitwise_xor(kSignBit).view(at::kChar);
}

/// Compares the product of this geometry with cimq's own, on integers in guarded memory and powers of two for scales.
Fault try_convolution(const char* op, const at::Tensor& x_like, const at::Tensor& w_like, bool bias,
                      const LibraryProduct& product) {
  at::Tensor x = at::empty_like(x_like);
  at::Tensor w = at::empty_like(w_like);
  fill_activations(x, {0, kMaxCode});
  fill_weights(w, {-kMaxWeight, kMaxWeight});
  LibraryProduct tried = product;
  // A scale of one may be left out by the library.
  tried.scale = product.scale == 1.0 ? 1.0 : 0.5;
  const at::Tensor w_scale = at::full({w.size(0)}, 0.25, at::kFloat);
  ResultScale scale{tried.scale * 0.25, {}};
  at::Tensor added;
  if (bias) {
    scale.offsets = at::arange(w.size(0), at::kInt).remainder(7).sub(3);
    added = scale.offsets->to(at::kFloat).mul(scale.unit);
  }
  const std::vector<std::int64_t> sides{product.padding[1], product.padding[1], product.padding[0], product.padding[0]};
  const at::Tensor sums =
      own_conv2d(op, signed_codes(x, product.shift), w, {product.stride, sides, product.dilation, product.groups});
  return try_product(x, w, sums, scale, [&](const at::Tensor& codes, const at::Tensor& weights) {
    return call_convolution(op, codes, weights, w_scale, added, tried);
  });
}

bool is_proven(const char* op, const at::Tensor& x, const at::Tensor& w, bool bias, const LibraryProduct& product) {
  ProductGeometry geometry(Primitive::kInt8Conv2d);
  geometry.add("x", x.sizes())
      .add("w", w.sizes())
      .add("stride", product.stride)
      .add("padding", product.padding)
      .add("dilation", product.dilation)
      .add("groups", product.groups)
      .add("zero point", product.shift)
      .add("bias", static_cast<std::int64_t>(bias))
      .add("bf16", static_cast<std::int64_t>(product.dtype == at::kBFloat16))
      .add("scaled", static_cast<std::int64_t>(product.scale != 1.0))
      .add("w strides", w.strides());
  return proven(geometry, [&] { return try_convolution(op, x, w, bias, product); });
}

}  // namespace

bool has_exact_products() {
  if (!may_be_exact()) return false;
  // Asked while a model is traced as well: with numbers, not with the fake tensors of the trace.
  const c10::impl::ExcludeDispatchKeyGuard numbers(
      c10::DispatchKeySet({c10::DispatchKey::Python, c10::DispatchKey::PythonTLSSnapshot}));
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kChannels = 64;
  constexpr std::int64_t kSide = 9;
  const auto bytes = at::TensorOptions().dtype(at::kByte);
  const at::Tensor x = at::empty({2, kChannels, kSide, kSide}, bytes, at::MemoryFormat::ChannelsLast);
  const at::Tensor w = at::empty({kChannels, kChannels, 3, 3}, bytes.dtype(at::kChar));
  const LibraryProduct product{0.5, 0, {1, 1}, {1, 1}, {1, 1}, 1, at::kFloat};
  const auto trial = [&] { return try_convolution("has_integer_convolutions", x, w, false, product); };
  return proven(ProductGeometry(Primitive::kInt8Conv2d).add("x", x.sizes()).add("w", w.sizes()), trial);
}

at::Tensor convolve_codes(const char* op, const at::Tensor& codes, double scale, std::int64_t shift,
                          const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                          const ConvRequest& request, at::ScalarType dtype) {
  const bool pad = needs_padded_input(w, shift, request);
  at::Tensor added = bias.value_or(at::Tensor());
  if (added.defined()) added = added.contiguous();
  const LibraryProduct product{scale,
                               shift,
                               request.stride.vec(),
                               {pad ? 0 : request.padding[2], pad ? 0 : request.padding[0]},
                               request.dilation.vec(),
                               request.groups,
                               dtype};
  if (may_be_exact()) {
    const at::Tensor x =
        pad ? at::constant_pad_nd(codes, request.padding, shift).contiguous(at::MemoryFormat::ChannelsLast) : codes;
    if (is_proven(op, x, w, added.defined(), product)) return call_convolution(op, x, w, w_scale, added, product);
  }
  // One rounding of the sum, one of each factor, one of the bias: within what the library's own results differ.
  const at::Tensor sums = own_conv2d(op, signed_codes(codes, shift), w, request);
  at::Tensor y = sums.to(at::kFloat).mul_(w_scale.mul(scale).reshape({-1, 1, 1}));
  if (added.defined()) y.add_(added.reshape({-1, 1, 1}));
  return y.to(dtype).contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace cimq::ops
