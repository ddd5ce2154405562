#include "ops/scale_row.h"

#include <torch/library.h>

#include "ops/support/dispatch.h"

namespace cimq::ops {
namespace {

/// Made of torch's own operators: one implementation for every device.
at::Tensor scale_row_composite(const at::Tensor& scales, std::int64_t row, double smallest) {
  TORCH_CHECK_VALUE(scales.dim() >= 1 && row >= 0 && row < scales.size(0),
                    "scale_row: row must be in [0, rows of scales), got row=", row, " and scales ", scales.sizes());
  return scales.select(0, row).clamp_min(smallest);
}

}  // namespace

at::Tensor scale_row(const at::Tensor& scales, std::int64_t row, double smallest) {
  static const auto kOp = typed_op<decltype(scale_row)>("cimq::scale_row");
  return kOp.call(scales, row, smallest);
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("scale_row(Tensor scales, int row, float smallest) -> Tensor"); }

TORCH_LIBRARY_IMPL(cimq, CompositeExplicitAutograd, m) {
  m.impl("scale_row", TORCH_FN(cimq::ops::scale_row_composite));
}
