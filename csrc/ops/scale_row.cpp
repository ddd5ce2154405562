// cimq::scale_row: the scale of the present bit width out of those of all widths, and its autograd. One node in the
// graph of a training step where Python would need three.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/select_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

at::Tensor scale_row(const at::Tensor& scales, std::int64_t row, double smallest) {
  TORCH_CHECK_VALUE(scales.dim() >= 1 && row >= 0 && row < scales.size(0),
                    "scale_row: row must be in [0, rows of scales), got row=", row, " and scales ", scales.sizes());
  return scales.select(0, row).clamp_min(smallest);
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class ScaleRow : public torch::autograd::Function<ScaleRow> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& scales, std::int64_t row, double smallest) {
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::scale_row", "").typed<decltype(scale_row)>();
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->saved_data["row"] = row;
    ctx->saved_data["sizes"] = scales.sizes().vec();
    return kOp.call(scales, row, smallest);
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

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("scale_row(Tensor scales, int row, float smallest) -> Tensor"); }

TORCH_LIBRARY_IMPL(cimq, CompositeExplicitAutograd, m) { m.impl("scale_row", TORCH_FN(cimq::ops::scale_row)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("scale_row", TORCH_FN(cimq::ops::scale_row_autograd)); }
