#include "ops/resize2d.h"

#include <ATen/ops/upsample_bilinear2d_backward.h>
#include <ATen/ops/upsample_nearest2d_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <string>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class Resize2d : public torch::autograd::Function<Resize2d> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, at::IntArrayRef size, at::ArrayRef<double> step,
                          c10::string_view mode, bool align_corners) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->saved_data["input_size"] = x.sizes();
    ctx->saved_data["size"] = size;
    ctx->saved_data["step"] = step;
    ctx->saved_data["mode"] = std::string(mode.data(), mode.size());
    ctx->saved_data["align_corners"] = align_corners;
    return ops::resize2d(x, size, step, mode, align_corners);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto& data = ctx->saved_data;
    const auto input_size = data["input_size"].toIntVector();
    const auto size = data["size"].toIntVector();
    const auto step = data["step"].toDoubleVector();
    const double scale_h = 1.0 / step[0];
    const double scale_w = 1.0 / step[1];
    const bool nearest = resize_mode(data["mode"].toStringRef()) == kernels::ResizeMode::kNearest;
    return {nearest ? at::upsample_nearest2d_backward(grads[0], size, input_size, scale_h, scale_w)
                    : at::upsample_bilinear2d_backward(grads[0], size, input_size, data["align_corners"].toBool(),
                                                       scale_h, scale_w),
            Variable(), Variable(), Variable(), Variable()};
  }
};

at::Tensor resize2d_autograd(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step,
                             c10::string_view mode, bool align_corners) {
  return Resize2d::apply(x, size, step, mode, align_corners);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("resize2d", TORCH_FN(cimq::ops::resize2d_autograd)); }
