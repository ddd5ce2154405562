#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops/autograd/crossbar_function.h"
#include "ops/support/conv_args.h"
#include "ops/support/crossbar_args.h"

namespace cimq::ops {
namespace {

struct Conv2d {
  static constexpr const CrossbarOperator& kForward = ops::kConv2d;
  static constexpr const CrossbarOperator& kBackward = kConv2dBackward;

  /// Those of the digital convolution.
  static void dense(const KeptProduct& kept, const Variable& grad, const WantedInputs& wanted,
                    CrossbarGradients& gradients) {
    const auto& [x, w, call] = kept;
    const auto type = grad.scalar_type();
    const ConvGradients found =
        conv_gradients(grad, x.to(type), w.to(type), conv_request(call), {wanted.x, wanted.w, false});
    if (wanted.x) gradients.x = found.x.to(x.scalar_type());
    if (wanted.w) gradients.w = found.w.to(w.scalar_type());
  }
};

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  using namespace cimq::ops;
  m.impl(kConv2d.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kConv2d, crossbar_autograd<Conv2d>>>());
  // There are no second derivatives of a straight-through estimator.
  m.impl(kConv2dBackward.name, torch::autograd::autogradNotImplementedFallback());
}
