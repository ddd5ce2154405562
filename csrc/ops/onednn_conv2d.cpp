#include "ops/onednn_conv2d.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <string>

namespace cimq::ops {
namespace {

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

}  // namespace

bool has_exact_products() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512vnni") != 0;
#else
  return false;
#endif
}

at::Tensor convolve_codes(const char* op, const at::Tensor& codes, double scale, std::int64_t shift,
                          const at::Tensor& w, const at::Tensor& w_scale, const std::optional<at::Tensor>& bias,
                          const ConvRequest& request, at::ScalarType dtype) {
  const bool pad = needs_padded_input(w, shift, request);
  const at::Tensor x =
      pad ? at::constant_pad_nd(codes, request.padding, shift).contiguous(at::MemoryFormat::ChannelsLast) : codes;
  const c10::List<std::int64_t> stride(request.stride.vec());
  const c10::List<std::int64_t> padding({pad ? 0 : request.padding[2], pad ? 0 : request.padding[0]});
  const c10::List<std::int64_t> dilation(request.dilation.vec());
  // The order of the packed weight does not depend on its scales; of many, prepacking would look at each one.
  const at::Tensor one = at::ones({1}, w_scale.options());
  const at::Tensor packed = call_onednn(
      op, "onednn::qconv_prepack", {w, one, scale, shift, stride, padding, dilation, request.groups, x.sizes().vec()});
  const c10::IValue added = bias.has_value() && bias->defined() ? c10::IValue(bias->contiguous()) : c10::IValue();
  const at::Tensor zeros = at::zeros(w_scale.sizes(), w_scale.options().dtype(at::kInt));
  constexpr double kNoScale = 1.0;
  constexpr std::int64_t kNoZero = 0;
  return call_onednn(op, "onednn::qconv2d_pointwise",
                     {x, scale, shift, packed, w_scale.contiguous(), zeros, added, stride, padding, dilation,
                      request.groups, kNoScale, kNoZero, static_cast<std::int64_t>(dtype), std::string("none"),
                      c10::List<std::optional<at::Scalar>>(), c10::IValue()});
}

}  // namespace cimq::ops
