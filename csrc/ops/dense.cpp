// cimq::linear_f32 and cimq::conv2d_f32: float32 layers whose bits do not depend on machine, threads or library.
#include "kernels/dense.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "ops/support/checks.h"
#include "ops/support/conv_args.h"

namespace cimq::ops {
namespace {

constexpr const char* kLinear = "linear_f32";
constexpr const char* kConv = "conv2d_f32";
constexpr std::int64_t kWorkPerThread = 1 << 18;  // multiplications that a thread is worth starting for

using OptionalTensor = std::optional<at::Tensor>;

void check_float(const char* op, const char* name, const at::Tensor& tensor) {
  check_cpu(op, name, tensor);
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat, op, ": ", name, " must be float32, got ", describe(tensor));
}

/// Contiguous bias or an undefined tensor.
at::Tensor checked_bias(const char* op, const OptionalTensor& bias, std::int64_t outputs) {
  if (!bias.has_value() || !bias->defined()) return {};
  check_float(op, "bias", *bias);
  TORCH_CHECK_VALUE(bias->dim() == 1 && bias->size(0) == outputs, op, ": bias must have shape [", outputs, "], got ",
                    bias->sizes());
  return bias->contiguous();
}

at::Tensor linear_f32_cpu(const at::Tensor& x, const at::Tensor& w, const OptionalTensor& bias) {
  check_float(kLinear, "x", x);
  check_float(kLinear, "w", w);
  TORCH_CHECK_VALUE(w.dim() == 2 && x.dim() >= 1 && x.size(-1) == w.size(1), kLinear,
                    ": needs x [..., inputs] and w [outputs, inputs], got ", x.sizes(), " and ", w.sizes());
  const std::int64_t inputs = w.size(1);
  const std::int64_t outputs = w.size(0);
  const at::Tensor source = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const at::Tensor added = checked_bias(kLinear, bias, outputs);
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  shape.back() = outputs;
  at::Tensor y = at::empty(shape, source.options());
  const std::int64_t batch = inputs > 0 ? x.numel() / inputs : 0;
  TORCH_CHECK_VALUE(inputs > 0, kLinear, ": needs at least one input, got w ", w.sizes());
  const std::int64_t grain = 1 + kWorkPerThread / (inputs * std::max<std::int64_t>(1, outputs));
  const float* offset = added.defined() ? added.const_data_ptr<float>() : nullptr;
  at::parallel_for(0, batch, grain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::linear_f32(source.const_data_ptr<float>() + begin * inputs, weights.const_data_ptr<float>(), offset,
                             end - begin, inputs, outputs, y.mutable_data_ptr<float>() + begin * outputs);
  });
  return y;
}

at::Tensor conv2d_f32_cpu(const at::Tensor& x, const at::Tensor& w, const OptionalTensor& bias, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups) {
  check_float(kConv, "x", x);
  check_float(kConv, "w", w);
  const kernels::Conv2dGeometry g = parse_geometry(kConv, x, w, {stride, padding, dilation, groups});
  const std::int64_t h = x.size(2);
  const std::int64_t width = x.size(3);
  const at::Tensor source = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const at::Tensor added = checked_bias(kConv, bias, w.size(0));
  at::Tensor y = at::empty({x.size(0), w.size(0), g.out_h(h), g.out_w(width)}, source.options());
  const float* offset = added.defined() ? added.const_data_ptr<float>() : nullptr;
  const std::int64_t image = x.size(1) * h * width;
  const std::int64_t result = w.size(0) * g.out_h(h) * g.out_w(width);
  const std::int64_t grain = 1 + kWorkPerThread / std::max<std::int64_t>(1, result * g.inputs_per_output());
  at::parallel_for(0, x.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::conv2d_f32(source.const_data_ptr<float>() + begin * image, weights.const_data_ptr<float>(), offset, g,
                             end - begin, h, width, y.mutable_data_ptr<float>() + begin * result);
  });
  return y;
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class LinearF32 : public torch::autograd::Function<LinearF32> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& w, const OptionalTensor& bias) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, w});
    ctx->saved_data["bias"] = bias.has_value() && bias->defined() && bias->requires_grad();
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::linear_f32", "").typed<decltype(linear_f32_cpu)>();
    return kOp.call(x, w, bias);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Variable& w = saved[1];
    const Variable flat = grads[0].reshape({-1, w.size(0)});
    variable_list result(3);
    if (ctx->needs_input_grad(0)) result[0] = at::matmul(grads[0], w);
    if (ctx->needs_input_grad(1)) result[1] = at::mm(flat.t(), saved[0].reshape({-1, w.size(1)}));
    if (ctx->saved_data["bias"].toBool()) result[2] = flat.sum(0);
    return result;
  }
};

class Conv2dF32 : public torch::autograd::Function<Conv2dF32> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& w, const OptionalTensor& bias,
                          at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                          std::int64_t groups) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, w});
    ctx->saved_data["bias"] = bias.has_value() && bias->defined() && bias->requires_grad();
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["dilation"] = dilation;
    ctx->saved_data["groups"] = groups;
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::conv2d_f32", "").typed<decltype(conv2d_f32_cpu)>();
    return kOp.call(x, w, bias, stride, padding, dilation, groups);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const auto stride = data["stride"].toIntVector();
    const auto padding = data["padding"].toIntVector();
    const auto dilation = data["dilation"].toIntVector();
    const ConvGradients found =
        conv_gradients(grads[0], saved[0], saved[1], {stride, padding, dilation, data["groups"].toInt()},
                       {ctx->needs_input_grad(0), ctx->needs_input_grad(1), data["bias"].toBool()});
    variable_list result(7);
    if (ctx->needs_input_grad(0)) result[0] = found.x;
    if (ctx->needs_input_grad(1)) result[1] = found.w;
    if (data["bias"].toBool()) result[2] = found.bias;
    return result;
  }
};

at::Tensor linear_f32_autograd(const at::Tensor& x, const at::Tensor& w, const OptionalTensor& bias) {
  return LinearF32::apply(x, w, bias);
}

at::Tensor conv2d_f32_autograd(const at::Tensor& x, const at::Tensor& w, const OptionalTensor& bias,
                               at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                               std::int64_t groups) {
  return Conv2dF32::apply(x, w, bias, stride, padding, dilation, groups);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("linear_f32(Tensor x, Tensor w, Tensor? bias=None) -> Tensor");
  m.def(
      "conv2d_f32(Tensor x, Tensor w, Tensor? bias=None, int[] stride=[1, 1], int[] padding=[0, 0, 0, 0], "
      "int[] dilation=[1, 1], int groups=1) -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("linear_f32", TORCH_FN(cimq::ops::linear_f32_cpu));
  m.impl("conv2d_f32", TORCH_FN(cimq::ops::conv2d_f32_cpu));
}

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("linear_f32", TORCH_FN(cimq::ops::linear_f32_autograd));
  m.impl("conv2d_f32", TORCH_FN(cimq::ops::conv2d_f32_autograd));
}
