#include "ops/scale_row.h"

#include <ATen/ops/select_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class ScaleRow : public torch::autograd::Function<ScaleRow> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& scales, std::int64_t row, double smallest) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->saved_data["row"] = row;
    ctx->saved_data["sizes"] = scales.sizes().vec();
    return ops::scale_row(scales, row, smallest);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto& data = ctx->saved_data;
    // Straight through the lower bound: a scale that training drove to zero can come back.
    return {at::select_backward(grads[0], data["sizes"].toIntVector(), 0, data["row"].toInt()), {}, {}};
  }
};

at::Tensor scale_row_autograd(const at::Tensor& scales, std::int64_t row, double smallest) {
  return ScaleRow::apply(scales, row, smallest);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("scale_row", TORCH_FN(cimq::ops::scale_row_autograd)); }
