#include "ops/resize2d.h"

#include <torch/library.h>

#include "ops/support/dispatch.h"
#include "ops/support/planes.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "resize2d";

}  // namespace

at::Tensor resize2d(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step, c10::string_view mode,
                    bool align_corners) {
  static const auto kOp = typed_op<decltype(resize2d)>("cimq::resize2d");
  return kOp.call(x, size, step, mode, align_corners);
}

kernels::ResizeMode resize_mode(c10::string_view name) {
  const auto mode = kernels::resize_mode_of(std::string_view(name.data(), name.size()));
  TORCH_CHECK_VALUE(mode.has_value(), kName, ": mode must be nearest or bilinear, got '", name, "'");
  return *mode;
}

kernels::Resize2d checked_resize(const at::Tensor& x, at::IntArrayRef size, at::ArrayRef<double> step,
                                 c10::string_view mode, bool align_corners) {
  check_images(kName, x);
  TORCH_CHECK_VALUE(size.size() == 2 && size[0] >= 1 && size[1] >= 1, kName,
                    ": size must be two values of at least 1, got ", size);
  TORCH_CHECK_VALUE(step.size() == 2, kName, ": step must have two values, got ", step);
  const kernels::Resize2d resize{resize_mode(mode),           size[0],      size[1], static_cast<float>(step[0]),
                                 static_cast<float>(step[1]), align_corners};
  TORCH_CHECK_VALUE(x.size(2) >= 1 && x.size(3) >= 1, kName, ": x must have height and width, got shape ", x.sizes());
  return resize;
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("resize2d(Tensor x, int[] size, float[] step, str mode, bool align_corners=False) -> Tensor");
}
