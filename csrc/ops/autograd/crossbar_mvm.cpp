#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops/autograd/crossbar_function.h"

namespace cimq::ops {
namespace {

struct Mvm {
  static constexpr const CrossbarOperator& kForward = kMvm;
  static constexpr const CrossbarOperator& kBackward = kMvmBackward;

  /// Those of x . w^T.
  static void dense(const KeptProduct& kept, const Variable& grad, const WantedInputs& wanted,
                    CrossbarGradients& gradients) {
    const auto& [x, w, call] = kept;
    if (wanted.x) gradients.x = at::matmul(grad, w.to(grad.scalar_type())).to(x.scalar_type());
    if (!wanted.w) return;
    const Variable flat_grad = grad.reshape({-1, w.size(0)});
    const Variable flat_x = x.to(grad.scalar_type()).reshape({-1, w.size(1)});
    gradients.w = at::mm(flat_grad.t(), flat_x).to(w.scalar_type());
  }
};

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  using namespace cimq::ops;
  m.impl(kMvm.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kMvm, crossbar_autograd<Mvm>>>());
  // There are no second derivatives of a straight-through estimator.
  m.impl(kMvmBackward.name, torch::autograd::autogradNotImplementedFallback());
}
