#include "ops/support/quantizer_gradients.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <vector>

#include "ops/support/quantizer_types.h"

namespace cimq::ops {
namespace {

template <typename T>
void backward_blocks(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale, const ScaledRows& rows,
                     const kernels::QuantRange& range, double grad_scale, const at::Tensor& levels,
                     QuantizerGradients& result) {
  using Scale = kernels::Computed<T>;
  const auto* upstream = static_cast<const T*>(grad.const_data_ptr());
  const auto* source = static_cast<const T*>(x.const_data_ptr());
  const auto* scales = scale.const_data_ptr<Scale>();
  auto* target = static_cast<T*>(result.x.mutable_data_ptr());
  auto* integers = levels.defined() ? static_cast<T*>(levels.mutable_data_ptr()) : nullptr;
  // One sum per block, added up in block order afterwards: the result does not depend on the number of threads.
  std::vector<double> partial(static_cast<std::size_t>(rows.blocks()), 0.0);
  rows.for_each_block([&](std::int64_t block, std::int64_t channel, std::int64_t begin, std::int64_t count) {
    partial[static_cast<std::size_t>(block)] =
        kernels::cpu::fake_quantize_backward(upstream + begin, source + begin, count, scales[channel], range,
                                             target + begin, integers == nullptr ? nullptr : integers + begin);
  });
  std::vector<double> sums(static_cast<std::size_t>(rows.channels), 0.0);
  for (std::int64_t block = 0; block < rows.blocks(); ++block) {
    sums[static_cast<std::size_t>(block / rows.blocks_per_row % rows.channels)] +=
        partial[static_cast<std::size_t>(block)];
  }
  auto* dscale = result.scale.mutable_data_ptr<Scale>();
  for (std::int64_t c = 0; c < rows.channels; ++c) {
    dscale[c] = static_cast<Scale>(sums[static_cast<std::size_t>(c)] * grad_scale);
  }
}

}  // namespace

QuantizerGradients quantizer_gradients(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale,
                                       const ScaledRows& rows, const kernels::QuantRange& range, double factor,
                                       GradientUse use, const at::Tensor& levels) {
  // Autograd gives grad in x's type. Any other is read as what the sums are computed in, so that it loses no bit.
  at::ScalarType type = stored_type(x.scalar_type());
  if (type != at::kDouble && grad.scalar_type() != type) type = at::kFloat;
  const at::Tensor source = quantizer_operand(x, type, rows);
  at::Tensor upstream = grad.to(type);
  if (upstream.strides() != source.strides()) upstream = at::empty_like(source).copy_(upstream);
  QuantizerGradients result;
  result.x = use == GradientUse::kRead ? at::empty_like(source) : upstream;
  result.scale = at::empty(scale.sizes(), scale.options());
  const at::Tensor scales = scale.contiguous();
  with_stored_type(
      type, [&]<typename T>(T) { backward_blocks<T>(upstream, source, scales, rows, range, factor, levels, result); });
  result.x = result.x.to(x.scalar_type());
  return result;
}

}  // namespace cimq::ops
