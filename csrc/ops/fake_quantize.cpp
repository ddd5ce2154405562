// cimq::fake_quantize, its backward and their autograd (LSQ, Esser et al., "Learned step size quantization", 2020).
#include "kernels/fake_quantize.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "ops/support/checks.h"
#include "ops/support/quantizer_gradients.h"

namespace cimq::ops {
namespace {

constexpr const char* kForward = "fake_quantize";
constexpr const char* kBackward = "fake_quantize_backward";

using Axis = std::optional<std::int64_t>;

/// How the kernels read and write values of `type`: 16-bit floats as they are, other types than double as float32.
at::ScalarType stored_type(at::ScalarType type) {
  return type == at::kDouble || type == at::kBFloat16 || type == at::kHalf ? type : at::kFloat;
}

/// Calls body(T{}) with the kernels' type for a tensor of `type`, which is one that stored_type gives.
template <typename Body>
void with_stored_type(at::ScalarType type, const Body& body) {
  switch (type) {
    case at::kDouble:
      return body(double{});
    case at::kBFloat16:
      return body(BFloat16{});
    case at::kHalf:
      return body(Float16{});
    default:
      return body(float{});
  }
}

/// x as `type` in an order that the kernels can walk. Gaps in a 16-bit tensor close in the order of its dimensions.
at::Tensor operand(const at::Tensor& x, at::ScalarType type, const ScaledRows& rows) {
  at::Tensor values = x.to(type);
  const bool dense = values.is_non_overlapping_and_dense();
  // Channels that lie one after another are rows, whatever the order within them: weights stay in channels-last order.
  if (rows.by_first_axis && dense && values.stride(0) * values.size(0) == values.numel()) return values;
  const bool copied = rows.per_tensor && values.element_size() == 2 && !dense;
  return walkable(copied ? values.clone() : values, rows.per_tensor);
}

template <typename T>
void forward_blocks(const at::Tensor& x, const at::Tensor& scale, const ScaledRows& rows,
                    const kernels::QuantRange& range, at::Tensor& y) {
  const auto* source = static_cast<const T*>(x.const_data_ptr());
  const auto* scales = scale.const_data_ptr<kernels::Computed<T>>();
  auto* target = static_cast<T*>(y.mutable_data_ptr());
  rows.for_each_block([&](std::int64_t, std::int64_t channel, std::int64_t begin, std::int64_t count) {
    kernels::cpu::fake_quantize(source + begin, count, scales[channel], range, target + begin);
  });
}

at::Tensor fake_quantize_cpu(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                             Axis axis, std::optional<double> /*grad_scale*/, bool binary) {
  const ScaledRows rows = check_quantizer(kForward, x, scale, qmin, qmax, axis, binary);
  const at::ScalarType type = stored_type(x.scalar_type());
  const at::Tensor source = operand(x, type, rows);
  const at::Tensor scales = scale.contiguous();
  at::Tensor y = at::empty_like(source);
  const auto range = quant_range(qmin, qmax, binary);
  with_stored_type(type, [&]<typename T>(T) { forward_blocks<T>(source, scales, rows, range, y); });
  return y.to(x.scalar_type());
}

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

std::tuple<at::Tensor, at::Tensor> fake_quantize_backward_cpu(const at::Tensor& grad, const at::Tensor& x,
                                                              const at::Tensor& scale, std::int64_t qmin,
                                                              std::int64_t qmax, Axis axis,
                                                              std::optional<double> grad_scale, bool binary) {
  const ScaledRows rows = check_quantizer(kBackward, x, scale, qmin, qmax, axis, binary);
  TORCH_CHECK_VALUE(grad.sizes() == x.sizes(), kBackward, ": grad must have x's shape ", x.sizes(), ", got ",
                    grad.sizes());
  const std::int64_t per_scale = x.numel() / std::max<std::int64_t>(1, rows.channels);
  const double factor =
      grad_scale.value_or(1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, per_scale) * qmax)));
  const QuantizerGradients result =
      quantizer_gradients(grad, x, scale, rows, quant_range(qmin, qmax, binary), factor, GradientUse::kRead);
  return {result.x, result.scale};
}

at::Tensor call_forward(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax, Axis axis,
                        std::optional<double> grad_scale, bool binary) {
  static const auto kOp =
      c10::Dispatcher::singleton().findSchemaOrThrow("cimq::fake_quantize", "").typed<decltype(fake_quantize_cpu)>();
  return kOp.call(x, scale, qmin, qmax, axis, grad_scale, binary);
}

std::tuple<at::Tensor, at::Tensor> call_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale,
                                                 std::int64_t qmin, std::int64_t qmax, Axis axis,
                                                 std::optional<double> grad_scale, bool binary) {
  static const auto kOp = c10::Dispatcher::singleton()
                              .findSchemaOrThrow("cimq::fake_quantize_backward", "")
                              .typed<decltype(fake_quantize_backward_cpu)>();
  return kOp.call(grad, x, scale, qmin, qmax, axis, grad_scale, binary);
}

}  // namespace

QuantizerGradients quantizer_gradients(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale,
                                       const ScaledRows& rows, const kernels::QuantRange& range, double factor,
                                       GradientUse use, const at::Tensor& levels) {
  // Autograd gives grad in x's type. Any other is read as what the sums are computed in, so that it loses no bit.
  at::ScalarType type = stored_type(x.scalar_type());
  if (type != at::kDouble && grad.scalar_type() != type) type = at::kFloat;
  const at::Tensor source = operand(x, type, rows);
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

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class FakeQuantize : public torch::autograd::Function<FakeQuantize> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& scale, std::int64_t qmin,
                          std::int64_t qmax, Axis axis, std::optional<double> grad_scale, bool binary) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, scale});
    ctx->saved_data["qmin"] = qmin;
    ctx->saved_data["qmax"] = qmax;
    ctx->saved_data["axis"] = axis;
    ctx->saved_data["grad_scale"] = grad_scale;
    ctx->saved_data["binary"] = binary;
    return call_forward(x, scale, qmin, qmax, axis, grad_scale, binary);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const auto [dx, dscale] = call_backward(grads[0], saved[0], saved[1], data["qmin"].toInt(), data["qmax"].toInt(),
                                            data["axis"].toOptional<std::int64_t>(),
                                            data["grad_scale"].toOptional<double>(), data["binary"].toBool());
    return {dx, dscale, Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

class FakeQuantizeBackward : public torch::autograd::Function<FakeQuantizeBackward> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static variable_list forward(AutogradContext* /*ctx*/, const Variable& grad, const Variable& x, const Variable& scale,
                               std::int64_t qmin, std::int64_t qmax, Axis axis, std::optional<double> grad_scale,
                               bool binary) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto [dx, dscale] = call_backward(grad, x, scale, qmin, qmax, axis, grad_scale, binary);
    return {dx, dscale};
  }

  static variable_list backward(AutogradContext* /*ctx*/, const variable_list& /*grads*/) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, kForward,
                                ": second derivatives are not defined for a straight-through estimator");
  }
};

at::Tensor fake_quantize_autograd(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                                  Axis axis, std::optional<double> grad_scale, bool binary) {
  return FakeQuantize::apply(x, scale, qmin, qmax, axis, grad_scale, binary);
}

std::tuple<at::Tensor, at::Tensor> fake_quantize_backward_autograd(const at::Tensor& grad, const at::Tensor& x,
                                                                   const at::Tensor& scale, std::int64_t qmin,
                                                                   std::int64_t qmax, Axis axis,
                                                                   std::optional<double> grad_scale, bool binary) {
  auto result = FakeQuantizeBackward::apply(grad, x, scale, qmin, qmax, axis, grad_scale, binary);
  return {result[0], result[1]};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "fake_quantize(Tensor x, Tensor scale, int qmin, int qmax, int? axis=None, float? grad_scale=None, "
      "bool binary=False) -> Tensor");
  m.def(
      "fake_quantize_backward(Tensor grad, Tensor x, Tensor scale, int qmin, int qmax, int? axis=None, "
      "float? grad_scale=None, bool binary=False) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("fake_quantize", TORCH_FN(cimq::ops::fake_quantize_cpu));
  m.impl("fake_quantize_backward", TORCH_FN(cimq::ops::fake_quantize_backward_cpu));
}

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("fake_quantize", TORCH_FN(cimq::ops::fake_quantize_autograd));
  m.impl("fake_quantize_backward", TORCH_FN(cimq::ops::fake_quantize_backward_autograd));
}
