#include "ops/quantize.h"

#include <torch/library.h>

#include <cmath>

#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "quantize";

}  // namespace

ScaledRows check_quantize(QuantizerCheck& check, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                          std::int64_t qmax, std::optional<std::int64_t> axis, bool binary) {
  TORCH_CHECK_TYPE(x.scalar_type() != at::kDouble, kName,
                   ": is defined in float32 (docs/numbers.md), convert x to float32 first, got ", describe(x));
  const ScaledRows rows = check(kName, x, scale, qmin, qmax, axis, binary);
  TORCH_CHECK_VALUE(qmin >= 0 ? qmax <= 255 : qmin >= -128 && qmax <= 127, kName,
                    ": the range must fit int8 or uint8, got qmin=", qmin, " qmax=", qmax);
  return rows;
}

void refuse_non_finite(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous().view({-1});
  const float* values = flat.const_data_ptr<float>();
  std::int64_t count = 0;
  std::int64_t first = -1;
  for (std::int64_t i = 0; i < flat.numel(); ++i) {
    if (std::isfinite(values[i])) continue;
    if (first < 0) first = i;
    ++count;
  }
  TORCH_CHECK_VALUE(false, kName, ": x must be finite, got ", count, " NaN or infinite values, the first (",
                    values[first], ") at flat index ", first, " of shape ", x.sizes());
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("quantize(Tensor x, Tensor scale, int qmin, int qmax, int? axis=None, bool binary=False) -> Tensor");
}
