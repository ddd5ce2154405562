// cimq::resize2d: nearest and bilinear interpolation whose bits are defined.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/upsample_bilinear2d_backward.h>
#include <ATen/ops/upsample_nearest2d_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <string>

#include "kernels/resize.h"
#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "resize2d";

kernels::ResizeMode mode_of(c10::string_view name) {
  const auto mode = kernels::resize_mode_of(std::string_view(name.data(), name.size()));
  TORCH_CHECK_VALUE(mode.has_value(), kName, ": mode must be nearest or bilinear, got '", name, "'");
  return *mode;
}

at::Tensor resize2d_cpu(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step, c10::string_view mode,
                        bool align_corners) {
  check_images(kName, x);
  TORCH_CHECK_VALUE(size.size() == 2 && size[0] >= 1 && size[1] >= 1, kName,
                    ": size must be two values of at least 1, got ", size);
  TORCH_CHECK_VALUE(step.size() == 2, kName, ": step must have two values, got ", step);
  const kernels::Resize2d resize{
      mode_of(mode), size[0], size[1], static_cast<float>(step[0]), static_cast<float>(step[1]), align_corners};
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  TORCH_CHECK_VALUE(h >= 1 && w >= 1, kName, ": x must have height and width, got shape ", x.sizes());
  return on_planes(kName, x, size[0], size[1], 4, [&](const float* from, std::int64_t planes, float* to) {
    kernels::cpu::resize2d(from, 1, planes, h, w, resize, to);
  });
}

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
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::resize2d", "").typed<decltype(resize2d_cpu)>();
    return kOp.call(x, size, step, mode, align_corners);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto& data = ctx->saved_data;
    const auto input_size = data["input_size"].toIntVector();
    const auto size = data["size"].toIntVector();
    const auto step = data["step"].toDoubleVector();
    const double scale_h = 1.0 / step[0];
    const double scale_w = 1.0 / step[1];
    const bool nearest = mode_of(data["mode"].toStringRef()) == kernels::ResizeMode::kNearest;
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

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("resize2d(Tensor x, int[] size, float[] step, str mode, bool align_corners=False) -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("resize2d", TORCH_FN(cimq::ops::resize2d_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("resize2d", TORCH_FN(cimq::ops::resize2d_autograd)); }
