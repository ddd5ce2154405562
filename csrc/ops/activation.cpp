#include "ops/activation.h"

#include <torch/library.h>

#include <cmath>

#include "ops/support/checks.h"
#include "ops/support/dispatch.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "activation";

}  // namespace

at::Tensor activation(const at::Tensor& x, c10::string_view name, double alpha) {
  static const auto kOp = typed_op<decltype(activation)>("cimq::activation");
  return kOp.call(x, name, alpha);
}

kernels::Activation activation_kind(c10::string_view name) {
  const auto kind = kernels::activation_of(std::string_view(name.data(), name.size()));
  TORCH_CHECK_VALUE(kind.has_value(), kName,
                    ": kind must be sigmoid, silu, hardsigmoid, hardswish, tanh, gelu, "
                    "gelu_tanh or elu, got '",
                    name, "'");
  return *kind;
}

void check_activation(const at::Tensor& x, double alpha) {
  check_float(kName, "x", x);
  TORCH_CHECK_VALUE(std::isfinite(static_cast<float>(alpha)), kName, ": alpha must be a finite float32, got ", alpha);
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("activation(Tensor x, str kind, float alpha=1.0) -> Tensor"); }
