#include "ops/mean.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class Mean : public torch::autograd::Function<Mean> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, at::IntArrayRef dim, bool keepdim) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->saved_data["sizes"] = x.sizes();
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["keepdim"] = keepdim;
    return ops::mean(x, dim, keepdim);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    const auto dims = mean_dims(ctx->saved_data["dim"].toIntVector(), static_cast<std::int64_t>(sizes.size()));
    at::Tensor grad = grads[0];
    double count = 1.0;
    for (const std::int64_t dim : dims) {
      if (!ctx->saved_data["keepdim"].toBool()) grad = grad.unsqueeze(dim);
      count *= static_cast<double>(sizes[static_cast<std::size_t>(dim)]);
    }
    return {grad.expand(sizes).div(count), Variable(), Variable()};
  }
};

at::Tensor mean_autograd(const at::Tensor& x, at::IntArrayRef dim, bool keepdim) {
  return Mean::apply(x, dim, keepdim);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("mean", TORCH_FN(cimq::ops::mean_autograd)); }
