// cimq::crossbar_mvm: Y = crossbar(x . w^T), with straight-through gradients for floating operands that hold integers.
#include "kernels/cpu/mvm/crossbar_mvm.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "ops/support/checks.h"
#include "ops/support/crossbar_args.h"
#include "ops/support/crossbar_backward.h"
#include "ops/support/digital_product.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "crossbar_mvm";
constexpr CacheLimits kCacheLimits{std::size_t{128} << 20, std::size_t{1} << 13};

using Chips = std::optional<std::int64_t>;
using OptionalTensor = std::optional<at::Tensor>;

template <typename T>
void run_batch(const kernels::cpu::CrossbarMvm& mvm, const at::Tensor& x, T* y, std::uint64_t first_access) {
  const std::int64_t inputs = mvm.plan().inputs;
  const std::int64_t outputs = mvm.plan().outputs;
  const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
  // A thread is worth starting for about a million cell operations.
  const std::int64_t work = std::max<std::int64_t>(1, inputs * outputs * mvm.plan().n_x * mvm.plan().n_w);
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / work);
  if (!mvm.splits_batch(x.size(0), at::get_num_threads())) {
    const std::int64_t panel_grain = std::max<std::int64_t>(1, grain * mvm.panels() / x.size(0));
    at::parallel_for(0, mvm.panels(), panel_grain, [&](std::int64_t begin, std::int64_t end) {
      mvm.run_panels(source, x.size(0), {begin, end}, y, first_access);
    });
    return;
  }
  at::parallel_for(0, x.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
    mvm.run(source + begin * inputs, end - begin, y + begin * outputs,
            first_access + static_cast<std::uint64_t>(begin));
  });
}

/// Weights as they are handed to run_chip().
struct Weights {
  at::Tensor q;  ///< int8, contiguous
  bool cached;   ///< what is programmed is kept
  bool checked;  ///< the range has been; else at programming: bytes equal to those of a program are in range
};

/// One chip; y [batch, outputs] is int32 or float32 as the plan says.
void run_chip(const CrossbarArgs& args, const std::string& hardware_json, const at::Tensor& x, const Weights& w_q,
              const at::Tensor& y) {
  const at::Tensor& w = w_q.q;
  static auto& cache = listed_cache<ProgramCache<kernels::cpu::CrossbarMvm>>(kName, kCacheLimits);
  const auto* weights = w.const_data_ptr<std::int8_t>();
  if (args.by_reference) {
    const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
    if (y.scalar_type() == at::kInt) {
      kernels::crossbar_mvm_reference({*args.hardware, weights, w.size(0), w.size(1), args.options}, source, x.size(0),
                                      y.mutable_data_ptr<std::int32_t>(), args.first_access);
    } else {
      kernels::crossbar_mvm_reference({*args.hardware, weights, w.size(0), w.size(1), args.options}, source, x.size(0),
                                      y.mutable_data_ptr<float>(), args.first_access);
    }
    return;
  }
  const auto make = [&](const std::int8_t* bytes) {
    if (!w_q.checked) narrowed(kName, "w_q", w, weight_range(args.options.weight_bits));
    return std::make_shared<const kernels::cpu::CrossbarMvm>(
        kernels::MvmProblem{*args.hardware, bytes, w.size(0), w.size(1), args.options});
  };
  std::shared_ptr<const kernels::cpu::CrossbarMvm> mvm;
  if (w_q.cached) {
    ProgramKey key;
    args.add_to(key, hardware_json);
    key.add(w.size(0));
    key.set_weights(weights, static_cast<std::size_t>(w.numel()));
    mvm = cache.get(key, make);
  } else {
    mvm = make(weights);
  }
  if (mvm->exact()) {
    run_batch(*mvm, x, y.mutable_data_ptr<std::int32_t>(), args.first_access);
  } else {
    run_batch(*mvm, x, y.mutable_data_ptr<float>(), args.first_access);
  }
}

at::Tensor crossbar_mvm_cpu(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware,
                            std::int64_t weight_bits, std::int64_t act_bits, bool act_signed, Chips chips,
                            std::int64_t seed, std::int64_t layer, const OptionalTensor& adc_lo,
                            const OptionalTensor& adc_lsb, c10::string_view backend, std::int64_t first_access,
                            c10::string_view adc_grad) {
  const std::string json(hardware);
  CrossbarArgs args = parse_request(kName, {json, outputs_of(w_q), weight_bits, act_bits, act_signed, chips, seed,
                                            layer, adc_lo, adc_lsb, backend, first_access, adc_grad});
  check_mvm_operands(kName, x_q, w_q);
  const auto plan = translate_errors(
      kName, [&] { return kernels::make_mvm_plan(*args.hardware, w_q.size(0), w_q.size(1), args.options); });
  const IntegerRange x_range = activation_range(act_bits, act_signed);
  const IntegerRange w_range = weight_range(weight_bits);
  // Nothing is lost: one product of the integers. One-bit weights have a check of their own, below.
  const bool digital = plan.collapses && !args.by_reference && weight_bits > 1 &&
                       !prefers_int8(x_q, w_q, w_q.size(0), x_q.numel() / w_q.size(1) * w_q.size(0)) &&
                       (float_sums_are_exact(w_q.size(1), x_range, w_range) || !kernels::cpu::has_fast_products());
  at::Tensor y;
  if (digital) {
    const at::Tensor x = rows_of(as_floats(kName, "x_q", x_q, x_range));
    y = digital_product(kName, x, as_floats(kName, "w_q", w_q, w_range), x_range, w_range).unsqueeze(0);
  } else {
    const at::Tensor x = rows_of(narrowed(kName, "x_q", x_q, x_range));
    // Weights in training change at every step: keeping them would only fill the cache.
    const bool cached = !w_q.is_floating_point();
    const bool checked = !cached || args.by_reference || w_q.scalar_type() != at::kChar || x.size(0) == 0;
    const Weights w{checked ? narrowed(kName, "w_q", w_q, w_range) : w_q.contiguous(), cached, checked};
    // Chips without variation are equal: one is computed.
    const std::int64_t computed = plan.varies ? args.chips : 1;
    y = at::empty({computed, x.size(0), w_q.size(0)}, x.options().dtype(plan.exact ? at::kInt : at::kFloat));
    translate_errors(kName, [&] {
      if (weight_bits == 1 && checked) kernels::check_weights(w.q.const_data_ptr<std::int8_t>(), w.q.numel(), 1);
      for (std::int64_t chip = 0; chip < computed && x.size(0) > 0; ++chip) {
        args.options.chip = static_cast<std::uint32_t>(chip);
        run_chip(args, json, x, w, y.select(0, chip));
      }
      return true;
    });
  }
  y = y.to(result_type(x_q, w_q, plan.gives_integers()));
  const std::vector<std::int64_t> shape = mvm_shape(args, x_q, w_q);
  return args.stacked ? y.expand({args.chips, -1, -1}).contiguous().view(shape) : y.reshape(shape);
}

at::Tensor call_op(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware, std::int64_t weight_bits,
                   std::int64_t act_bits, bool act_signed, Chips chips, std::int64_t seed, std::int64_t layer,
                   const OptionalTensor& adc_lo, const OptionalTensor& adc_lsb, c10::string_view backend,
                   std::int64_t first_access, c10::string_view adc_grad) {
  static const auto kOp =
      c10::Dispatcher::singleton().findSchemaOrThrow("cimq::crossbar_mvm", "").typed<decltype(crossbar_mvm_cpu)>();
  return kOp.call(x_q, w_q, hardware, weight_bits, act_bits, act_signed, chips, seed, layer, adc_lo, adc_lsb, backend,
                  first_access, adc_grad);
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class CrossbarMvmFunction : public torch::autograd::Function<CrossbarMvmFunction> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x_q, const Variable& w_q, const std::string& hardware,
                          std::int64_t weight_bits, std::int64_t act_bits, bool act_signed, Chips chips,
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
    data["chips"] = chips;
    data["seed"] = seed;
    data["layer"] = layer;
    data["first_access"] = first_access;
    data["adc_grad"] = adc_grad;
    return call_op(x_q, w_q, hardware, weight_bits, act_bits, act_signed, chips, seed, layer, adc_lo, adc_lsb, backend,
                   first_access, adc_grad);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Variable& x = saved[0];
    const Variable& w = saved[1];
    auto& data = ctx->saved_data;
    const StepInput step(saved[2], saved[3]);
    std::array<bool, 3> wanted{ctx->needs_input_grad(0), ctx->needs_input_grad(1), step.wanted(*ctx)};
    const bool clip = data["adc_grad"].toStringRef() == "clip";
    variable_list result(14);
    if (!clip) {
      dense_gradients(x, w, data["chips"].isNone() ? grads[0] : grads[0].sum(0), wanted, result);
      wanted[0] = wanted[1] = false;
    }
    if (!wanted[0] && !wanted[1] && !wanted[2]) return result;
    static const auto kOp = c10::Dispatcher::singleton()
                                .findSchemaOrThrow("cimq::crossbar_mvm_backward", "")
                                .typed<decltype(crossbar_mvm_backward_cpu)>();
    const auto [dx, dw, dlsb] =
        kOp.call(grads[0], x, w, data["hardware"].toStringRef(), data["weight_bits"].toInt(), data["act_bits"].toInt(),
                 data["act_signed"].toBool(), data["chips"].toOptional<std::int64_t>(), data["seed"].toInt(),
                 data["layer"].toInt(), step.lo(), step.lsb(), data["first_access"].toInt(),
                 data["adc_grad"].toStringRef(), wanted);
    if (wanted[0]) result[0] = dx.to(x.scalar_type());
    if (wanted[1]) result[1] = dw.to(w.scalar_type());
    if (wanted[2]) result[10] = dlsb;
    return result;
  }

 private:
  /// Straight through: the gradients of x . w^T; chips share their operands.
  static void dense_gradients(const Variable& x, const Variable& w, const Variable& grad,
                              const std::array<bool, 3>& wanted, variable_list& result) {
    if (wanted[0]) result[0] = at::matmul(grad, w.to(grad.scalar_type())).to(x.scalar_type());
    if (!wanted[1]) return;
    const Variable flat_grad = grad.reshape({-1, w.size(0)});
    const Variable flat_x = x.to(grad.scalar_type()).reshape({-1, w.size(1)});
    result[1] = at::mm(flat_grad.t(), flat_x).to(w.scalar_type());
  }
};

at::Tensor crossbar_mvm_autograd(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware,
                                 std::int64_t weight_bits, std::int64_t act_bits, bool act_signed, Chips chips,
                                 std::int64_t seed, std::int64_t layer, const OptionalTensor& adc_lo,
                                 const OptionalTensor& adc_lsb, c10::string_view backend, std::int64_t first_access,
                                 c10::string_view adc_grad) {
  return CrossbarMvmFunction::apply(x_q, w_q, std::string(hardware), weight_bits, act_bits, act_signed, chips, seed,
                                    layer, adc_lo, adc_lsb, std::string(backend), first_access, std::string(adc_grad));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "crossbar_mvm(Tensor x_q, Tensor w_q, str hardware, int weight_bits, int act_bits, bool act_signed=False, "
      "int? chips=None, int seed=0, int layer=0, Tensor? adc_lo=None, Tensor? adc_lsb=None, str backend=\"auto\", "
      "int first_access=0, str adc_grad=\"identity\") -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("crossbar_mvm", TORCH_FN(cimq::ops::crossbar_mvm_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("crossbar_mvm", TORCH_FN(cimq::ops::crossbar_mvm_autograd)); }
