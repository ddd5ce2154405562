#include "ops/quantize.h"

#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <atomic>

#include "kernels/fake_quantize.h"

namespace cimq::ops {
namespace {

template <typename Q>
bool quantize_blocks(const at::Tensor& x, const at::Tensor& scale, const ScaledRows& rows,
                     const kernels::QuantRange& range, at::Tensor& q) {
  const float* source = x.const_data_ptr<float>();
  const float* scales = scale.const_data_ptr<float>();
  Q* target = q.mutable_data_ptr<Q>();
  std::atomic<bool> finite = true;
  rows.for_each_block([&](std::int64_t, std::int64_t channel, std::int64_t begin, std::int64_t count) {
    if (!kernels::cpu::quantize(source + begin, count, scales[channel], range, target + begin)) finite = false;
  });
  return finite;
}

at::Tensor quantize_cpu(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                        std::optional<std::int64_t> axis, bool binary) {
  const ScaledRows rows = check_quantize(check_quantizer, x, scale, qmin, qmax, axis, binary);
  const bool is_unsigned = qmin >= 0;
  const at::Tensor source = walkable(x.to(at::kFloat), !axis.has_value());
  const at::Tensor scales = scale.contiguous();
  at::Tensor q = at::empty_like(source, source.options().dtype(is_unsigned ? at::kByte : at::kChar));
  const auto range = quant_range(qmin, qmax, binary);
  const bool finite = is_unsigned ? quantize_blocks<std::uint8_t>(source, scales, rows, range, q)
                                  : quantize_blocks<std::int8_t>(source, scales, rows, range, q);
  if (!finite) refuse_non_finite(source);
  return q;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("quantize", TORCH_FN(cimq::ops::quantize_cpu)); }
