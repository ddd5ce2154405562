// cimq::softmax: softmax and its logarithm, whose bits are defined, so that evaluation, conversion and the executor
// agree.
#include "kernels/softmax.h"

#include <ATen/Parallel.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_log_softmax_backward_data.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "softmax";
constexpr std::int64_t kValuesPerThread = 1 << 12;

at::Tensor softmax_cpu(const at::Tensor& x, std::int64_t dim, bool logarithm) {
  check_cpu(kName, "x", x);
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat, kName, ": x must be float32, got ", describe(x));
  TORCH_CHECK_VALUE(x.dim() >= 1 && dim >= -x.dim() && dim < x.dim(), kName, ": dim must be a dimension of x, got ",
                    dim, " for shape ", x.sizes());
  const std::int64_t axis = at::maybe_wrap_dim(dim, x.dim());
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  const std::int64_t n = x.size(axis);
  std::int64_t inner = 1;
  for (std::int64_t i = axis + 1; i < x.dim(); ++i) inner *= x.size(i);
  const std::int64_t block = n * inner;
  if (block == 0) return y;
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  const std::int64_t grain = 1 + kValuesPerThread / block;
  at::parallel_for(0, source.numel() / block, grain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::softmax(from + begin * block, end - begin, n, inner, logarithm, to + begin * block);
  });
  return y;
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class SoftmaxFunction : public torch::autograd::Function<SoftmaxFunction> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, std::int64_t dim, bool logarithm) {
    at::AutoDispatchBelowADInplaceOrView guard;
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::softmax", "").typed<decltype(softmax_cpu)>();
    const Variable y = kOp.call(x, dim, logarithm);
    ctx->save_for_backward({y});
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["logarithm"] = logarithm;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor y = ctx->get_saved_variables()[0];
    const std::int64_t dim = ctx->saved_data["dim"].toInt();
    const bool logarithm = ctx->saved_data["logarithm"].toBool();
    return {logarithm ? at::_log_softmax_backward_data(grads[0], y, dim, y.scalar_type())
                      : at::_softmax_backward_data(grads[0], y, dim, y.scalar_type()),
            Variable(), Variable()};
  }
};

at::Tensor softmax_autograd(const at::Tensor& x, std::int64_t dim, bool logarithm) {
  return SoftmaxFunction::apply(x, dim, logarithm);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("softmax(Tensor x, int dim, bool logarithm=False) -> Tensor"); }

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("softmax", TORCH_FN(cimq::ops::softmax_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("softmax", TORCH_FN(cimq::ops::softmax_autograd)); }
