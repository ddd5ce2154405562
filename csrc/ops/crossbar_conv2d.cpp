// cimq::crossbar_conv2d: convolution on programmed crossbars, with straight-through gradients.
#include "kernels/cpu/mvm/crossbar_conv2d.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "ops/support/checks.h"
#include "ops/support/conv_args.h"
#include "ops/support/crossbar_args.h"
#include "ops/support/crossbar_backward.h"
#include "ops/support/digital_product.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "crossbar_conv2d";
constexpr CacheLimits kCacheLimits{std::size_t{128} << 20, std::size_t{1} << 13};

using Chips = std::optional<std::int64_t>;
using OptionalTensor = std::optional<at::Tensor>;

template <typename T>
void run_rows(const kernels::cpu::CrossbarConv2d& conv, const at::Tensor& x, T* y, std::uint64_t first_access) {
  const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
  const kernels::Conv2dGeometry& g = conv.geometry();
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  const kernels::MvmPlan& plan = conv.plan();
  const std::int64_t work =
      std::max<std::int64_t>(1, g.out_w(w) * g.out_channels * g.inputs_per_output() * plan.n_x * plan.n_w);
  // A thread is worth starting for about a million cell operations.
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / work);
  at::parallel_for(0, x.size(0) * g.out_h(h), grain, [&](std::int64_t begin, std::int64_t end) {
    conv.run_rows(source, h, w, begin, end, y, first_access);
  });
}

/// One chip; y is int32 or float32 as the plan says.
void run_chip(const CrossbarArgs& args, const std::string& hardware_json, bool cached,
              const kernels::Conv2dGeometry& geometry, const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  static auto& cache = listed_cache<ProgramCache<kernels::cpu::CrossbarConv2d>>(kName, kCacheLimits);
  const auto* weights = w.const_data_ptr<std::int8_t>();
  if (args.by_reference) {
    const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
    if (y.scalar_type() == at::kInt) {
      kernels::crossbar_conv2d_reference({*args.hardware, weights, geometry, args.options}, source, x.size(0),
                                         x.size(2), x.size(3), y.mutable_data_ptr<std::int32_t>(), args.first_access);
    } else {
      kernels::crossbar_conv2d_reference({*args.hardware, weights, geometry, args.options}, source, x.size(0),
                                         x.size(2), x.size(3), y.mutable_data_ptr<float>(), args.first_access);
    }
    return;
  }
  const auto make = [&](const std::int8_t* bytes) {
    return std::make_shared<const kernels::cpu::CrossbarConv2d>(
        kernels::Conv2dProblem{*args.hardware, bytes, geometry, args.options});
  };
  std::shared_ptr<const kernels::cpu::CrossbarConv2d> conv;
  if (cached) {
    ProgramKey key;
    args.add_to(key, hardware_json);
    key.add(geometry);
    key.set_weights(weights, static_cast<std::size_t>(w.numel()));
    conv = cache.get(key, make);
  } else {
    conv = make(weights);
  }
  if (conv->exact()) {
    run_rows(*conv, x, y.mutable_data_ptr<std::int32_t>(), args.first_access);
  } else {
    run_rows(*conv, x, y.mutable_data_ptr<float>(), args.first_access);
  }
}

at::Tensor crossbar_conv2d_cpu(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware,
                               std::int64_t weight_bits, std::int64_t act_bits, bool act_signed, at::IntArrayRef stride,
                               at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups, Chips chips,
                               std::int64_t seed, std::int64_t layer, const OptionalTensor& adc_lo,
                               const OptionalTensor& adc_lsb, c10::string_view backend, std::int64_t first_access,
                               c10::string_view adc_grad) {
  const std::string json(hardware);
  CrossbarArgs args = parse_request(kName, {json, outputs_of(w_q), weight_bits, act_bits, act_signed, chips, seed,
                                            layer, adc_lo, adc_lsb, backend, first_access, adc_grad});
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  const kernels::Conv2dGeometry geometry = parse_geometry(kName, x_q, w_q, {stride, padding, dilation, groups});
  const auto plan = translate_errors(kName, [&] {
    return kernels::make_mvm_plan(*args.hardware, geometry.out_channels / geometry.groups, geometry.inputs_per_output(),
                                  args.options);
  });
  const IntegerRange x_range = activation_range(act_bits, act_signed);
  const IntegerRange w_range = weight_range(weight_bits);
  const std::int64_t results =
      x_q.size(0) * geometry.out_channels * geometry.out_h(x_q.size(2)) * geometry.out_w(x_q.size(3));
  std::optional<at::Tensor> digital;
  // Nothing is lost: one convolution of the integers. One-bit weights have a check of their own, below.
  if (plan.collapses && !args.by_reference && weight_bits > 1 &&
      !prefers_int8(x_q, w_q, geometry.out_channels / geometry.groups, results) &&
      float_sums_are_exact(geometry.inputs_per_output(), x_range, w_range)) {
    digital = digital_conv2d(kName, as_floats(kName, "x_q", x_q, x_range), as_floats(kName, "w_q", w_q, w_range),
                             {stride, padding, dilation, groups}, x_range, w_range);
  }
  at::Tensor y;
  if (digital) {
    y = digital->unsqueeze(0);
  } else {
    const at::Tensor x = narrowed(kName, "x_q", x_q, x_range);
    const at::Tensor w = narrowed(kName, "w_q", w_q, w_range);
    // Chips without variation are equal: one is computed.
    const std::int64_t computed = plan.varies ? args.chips : 1;
    y = at::empty({computed, x.size(0), w.size(0), geometry.out_h(x.size(2)), geometry.out_w(x.size(3))},
                  x.options().dtype(plan.exact ? at::kInt : at::kFloat));
    // Weights in training change at every step: keeping them would only fill the cache.
    const bool cached = !w_q.is_floating_point();
    translate_errors(kName, [&] {
      if (weight_bits == 1) kernels::check_weights(w.const_data_ptr<std::int8_t>(), w.numel(), 1);  // not 0
      for (std::int64_t chip = 0; chip < computed && x.size(0) > 0; ++chip) {
        args.options.chip = static_cast<std::uint32_t>(chip);
        run_chip(args, json, cached, geometry, x, w, y.select(0, chip));
      }
      return true;
    });
  }
  y = y.to(result_type(x_q, w_q, plan.gives_integers()));
  return args.stacked ? y.expand({args.chips, -1, -1, -1, -1}).contiguous() : y.squeeze(0);
}

at::Tensor call_op(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware, std::int64_t weight_bits,
                   std::int64_t act_bits, bool act_signed, at::IntArrayRef stride, at::IntArrayRef padding,
                   at::IntArrayRef dilation, std::int64_t groups, Chips chips, std::int64_t seed, std::int64_t layer,
                   const OptionalTensor& adc_lo, const OptionalTensor& adc_lsb, c10::string_view backend,
                   std::int64_t first_access, c10::string_view adc_grad) {
  static const auto kOp = c10::Dispatcher::singleton()
                              .findSchemaOrThrow("cimq::crossbar_conv2d", "")
                              .typed<decltype(crossbar_conv2d_cpu)>();
  return kOp.call(x_q, w_q, hardware, weight_bits, act_bits, act_signed, stride, padding, dilation, groups, chips, seed,
                  layer, adc_lo, adc_lsb, backend, first_access, adc_grad);
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class CrossbarConv2dFunction : public torch::autograd::Function<CrossbarConv2dFunction> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x_q, const Variable& w_q, const std::string& hardware,
                          std::int64_t weight_bits, std::int64_t act_bits, bool act_signed, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups, Chips chips,
                          std::int64_t seed, std::int64_t layer, const OptionalTensor& adc_lo,
                          const OptionalTensor& adc_lsb, const std::string& backend, std::int64_t first_access,
                          const std::string& adc_grad) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x_q, w_q, adc_lo.value_or(Variable()), adc_lsb.value_or(Variable())});
    auto& data = ctx->saved_data;
    data["hardware"] = hardware;
    data["weight_bits"] = weight_bits;
    data["act_bits"] = act_bits;
    data["act_signed"] = act_signed;
    data["stride"] = stride;
    data["padding"] = padding;
    data["dilation"] = dilation;
    data["groups"] = groups;
    data["chips"] = chips;
    data["seed"] = seed;
    data["layer"] = layer;
    data["first_access"] = first_access;
    data["adc_grad"] = adc_grad;
    return call_op(x_q, w_q, hardware, weight_bits, act_bits, act_signed, stride, padding, dilation, groups, chips,
                   seed, layer, adc_lo, adc_lsb, backend, first_access, adc_grad);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Variable& x = saved[0];
    const Variable& w = saved[1];
    auto& data = ctx->saved_data;
    const auto stride = data["stride"].toIntVector();
    const auto padding = data["padding"].toIntVector();
    const auto dilation = data["dilation"].toIntVector();
    const std::int64_t groups = data["groups"].toInt();
    const StepInput step(saved[2], saved[3]);
    std::array<bool, 3> wanted{ctx->needs_input_grad(0), ctx->needs_input_grad(1), step.wanted(*ctx)};
    const bool clip = data["adc_grad"].toStringRef() == "clip";
    variable_list result(18);
    if (!clip && (wanted[0] || wanted[1])) {
      // Straight through: the gradients of the digital convolution; chips share their operands.
      const Variable grad = data["chips"].isNone() ? grads[0] : grads[0].sum(0);
      const auto type = grad.scalar_type();
      const ConvGradients found = conv_gradients(grad, x.to(type), w.to(type), {stride, padding, dilation, groups},
                                                 {wanted[0], wanted[1], false});
      if (wanted[0]) result[0] = found.x.to(x.scalar_type());
      if (wanted[1]) result[1] = found.w.to(w.scalar_type());
    }
    if (!clip) wanted[0] = wanted[1] = false;
    if (!wanted[0] && !wanted[1] && !wanted[2]) return result;
    static const auto kOp = c10::Dispatcher::singleton()
                                .findSchemaOrThrow("cimq::crossbar_conv2d_backward", "")
                                .typed<decltype(crossbar_conv2d_backward_cpu)>();
    const auto [dx, dw, dlsb] =
        kOp.call(grads[0], x, w, data["hardware"].toStringRef(), data["weight_bits"].toInt(), data["act_bits"].toInt(),
                 data["act_signed"].toBool(), stride, padding, dilation, groups,
                 data["chips"].toOptional<std::int64_t>(), data["seed"].toInt(), data["layer"].toInt(), step.lo(),
                 step.lsb(), data["first_access"].toInt(), data["adc_grad"].toStringRef(), wanted);
    if (wanted[0]) result[0] = dx.to(x.scalar_type());
    if (wanted[1]) result[1] = dw.to(w.scalar_type());
    if (wanted[2]) result[14] = dlsb;
    return result;
  }
};

at::Tensor crossbar_conv2d_autograd(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware,
                                    std::int64_t weight_bits, std::int64_t act_bits, bool act_signed,
                                    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                                    std::int64_t groups, Chips chips, std::int64_t seed, std::int64_t layer,
                                    const OptionalTensor& adc_lo, const OptionalTensor& adc_lsb,
                                    c10::string_view backend, std::int64_t first_access, c10::string_view adc_grad) {
  return CrossbarConv2dFunction::apply(x_q, w_q, std::string(hardware), weight_bits, act_bits, act_signed, stride,
                                       padding, dilation, groups, chips, seed, layer, adc_lo, adc_lsb,
                                       std::string(backend), first_access, std::string(adc_grad));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "crossbar_conv2d(Tensor x_q, Tensor w_q, str hardware, int weight_bits, int act_bits, bool act_signed=False, "
      "int[] stride=[1, 1], int[] padding=[0, 0, 0, 0], int[] dilation=[1, 1], int groups=1, int? chips=None, "
      "int seed=0, int layer=0, Tensor? adc_lo=None, Tensor? adc_lsb=None, str backend=\"auto\", "
      "int first_access=0, str adc_grad=\"identity\") -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("crossbar_conv2d", TORCH_FN(cimq::ops::crossbar_conv2d_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("crossbar_conv2d", TORCH_FN(cimq::ops::crossbar_conv2d_autograd)); }
