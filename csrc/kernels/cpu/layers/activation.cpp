#include "kernels/activation.h"

namespace cimq::kernels::cpu {
namespace {

template <Activation kKind>
void apply(const float* x, std::int64_t count, float* y, float alpha) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = activate(kKind, x[i], alpha);
}

}  // namespace

void activation(Activation kind, const float* x, std::int64_t count, float* y, float alpha) {
  switch (kind) {
    case Activation::kSigmoid:
      return apply<Activation::kSigmoid>(x, count, y, alpha);
    case Activation::kSilu:
      return apply<Activation::kSilu>(x, count, y, alpha);
    case Activation::kHardsigmoid:
      return apply<Activation::kHardsigmoid>(x, count, y, alpha);
    case Activation::kHardswish:
      return apply<Activation::kHardswish>(x, count, y, alpha);
    case Activation::kTanh:
      return apply<Activation::kTanh>(x, count, y, alpha);
    case Activation::kGelu:
      return apply<Activation::kGelu>(x, count, y, alpha);
    case Activation::kGeluTanh:
      return apply<Activation::kGeluTanh>(x, count, y, alpha);
    case Activation::kElu:
      return apply<Activation::kElu>(x, count, y, alpha);
  }
}

}  // namespace cimq::kernels::cpu
