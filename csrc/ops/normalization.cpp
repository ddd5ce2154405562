#include "ops/normalization.h"

#include <torch/library.h>

#include <cmath>

#include "ops/support/checks.h"
#include "ops/support/dispatch.h"

namespace cimq::ops {
namespace {

constexpr const char* kLayer = "layer_norm";
constexpr const char* kGroup = "group_norm";

void check_eps(const char* op, double eps) {
  TORCH_CHECK_VALUE(std::isfinite(eps) && eps >= 0.0, op, ": eps must be a number of at least 0, got ", eps);
}

}  // namespace

at::Tensor layer_norm(const at::Tensor& x, at::IntArrayRef normalized_shape, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps) {
  static const auto kOp = typed_op<decltype(layer_norm)>("cimq::layer_norm");
  return kOp.call(x, normalized_shape, weight, bias, eps);
}

at::Tensor group_norm(const at::Tensor& x, std::int64_t groups, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps) {
  static const auto kOp = typed_op<decltype(group_norm)>("cimq::group_norm");
  return kOp.call(x, groups, weight, bias, eps);
}

void check_layer_norm(const at::Tensor& x, at::IntArrayRef normalized_shape, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps) {
  check_float(kLayer, "x", x);
  check_eps(kLayer, eps);
  const auto rank = static_cast<std::int64_t>(normalized_shape.size());
  TORCH_CHECK_VALUE(rank >= 1 && rank <= x.dim() && x.sizes().slice(x.dim() - rank) == normalized_shape, kLayer,
                    ": normalized_shape must be the last dimensions of x, got ", normalized_shape, " for shape ",
                    x.sizes());
  check_parameter(kLayer, "weight", weight, normalized_shape);
  check_parameter(kLayer, "bias", bias, normalized_shape);
}

void check_group_norm(const at::Tensor& x, std::int64_t groups, const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias, double eps) {
  check_float(kGroup, "x", x);
  check_eps(kGroup, eps);
  TORCH_CHECK_VALUE(x.dim() >= 2, kGroup, ": x must be [batch, channels, ...], got shape ", x.sizes());
  const std::int64_t channels = x.size(1);
  TORCH_CHECK_VALUE(groups >= 1 && channels >= 1 && channels % groups == 0, kGroup,
                    ": groups must divide the channels, got ", groups, " for ", channels, " channels");
  check_parameter(kGroup, "weight", weight, {channels});
  check_parameter(kGroup, "bias", bias, {channels});
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "layer_norm(Tensor x, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor");
  m.def("group_norm(Tensor x, int groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-5) -> Tensor");
}
