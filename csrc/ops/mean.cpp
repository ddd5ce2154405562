// cimq::mean: the mean over some dimensions, summed in one order.
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "kernels/pooling.h"
#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "mean";

/// The dimensions as numbers in 0 .. rank - 1, ascending.
std::vector<std::int64_t> dims_of(at::IntArrayRef dims, std::int64_t rank) {
  TORCH_CHECK_VALUE(!dims.empty(), kName, ": dim must name a dimension");
  std::vector<std::int64_t> result;
  for (const std::int64_t dim : dims) {
    TORCH_CHECK_VALUE(dim >= -rank && dim < rank, kName, ": dim must be in ", -rank, " .. ", rank - 1, ", got ", dim);
    result.push_back(dim < 0 ? dim + rank : dim);
  }
  std::sort(result.begin(), result.end());
  TORCH_CHECK_VALUE(std::adjacent_find(result.begin(), result.end()) == result.end(), kName,
                    ": dim must not name a dimension twice, got ", dims);
  return result;
}

at::Tensor mean_cpu(const at::Tensor& x, at::IntArrayRef dim, bool keepdim) {
  check_cpu(kName, "x", x);
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat, kName, ": x must be float32, got ", describe(x));
  const std::vector<std::int64_t> dims = dims_of(dim, x.dim());
  std::vector<std::int64_t> shape;
  for (std::int64_t i = 0; i < x.dim(); ++i) {
    const bool reduced = std::binary_search(dims.begin(), dims.end(), i);
    TORCH_CHECK_VALUE(!reduced || x.size(i) >= 1, kName, ": a dimension to average must have an element, got shape ",
                      x.sizes());
    if (!reduced || keepdim) shape.push_back(reduced ? 1 : x.size(i));
  }
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty(shape, source.options());
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  if (y.numel() == 0) return y;
  // The first dimension that stays, if it is dimension 0, is shared out: a thread gets whole results.
  const bool split = dims[0] != 0;
  const std::int64_t parts = split ? x.size(0) : 1;
  const std::int64_t in = x.numel() / parts;
  const std::int64_t out = y.numel() / parts;
  const std::int64_t grain = 1 + (std::int64_t{1} << 15) / in;
  translate_errors(kName, [&] {
    at::parallel_for(0, parts, grain, [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::int64_t> sizes(x.sizes().begin(), x.sizes().end());
      if (split) sizes[0] = end - begin;
      kernels::cpu::mean(from + begin * in, sizes, dims, to + begin * out);
    });
    return true;
  });
  return y;
}

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
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::mean", "").typed<decltype(mean_cpu)>();
    return kOp.call(x, dim, keepdim);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    const auto dims = dims_of(ctx->saved_data["dim"].toIntVector(), static_cast<std::int64_t>(sizes.size()));
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

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("mean(Tensor x, int[] dim, bool keepdim=False) -> Tensor"); }

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("mean", TORCH_FN(cimq::ops::mean_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("mean", TORCH_FN(cimq::ops::mean_autograd)); }
