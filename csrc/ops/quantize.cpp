#include "ops/quantize.h"

#include <torch/library.h>

#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "quantize";

}  // namespace

ScaledRows check_quantize(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                          std::optional<std::int64_t> axis, bool binary) {
  TORCH_CHECK_TYPE(x.scalar_type() != at::kDouble, kName,
                   ": is defined in float32 (docs/numbers.md), convert x to float32 first, got ", describe(x));
  const ScaledRows rows = check_quantizer(kName, x, scale, qmin, qmax, axis, binary);
  TORCH_CHECK_VALUE(qmin >= 0 ? qmax <= 255 : qmin >= -128 && qmax <= 127, kName,
                    ": the range must fit int8 or uint8, got qmin=", qmin, " qmax=", qmax);
  return rows;
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("quantize(Tensor x, Tensor scale, int qmin, int qmax, int? axis=None, bool binary=False) -> Tensor");
}
