// Autograd of the crossbar products: what a forward keeps, whose gradients are asked for, and where they go.
#pragma once

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

#include "ops/support/crossbar_call.h"

namespace cimq::ops {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

/// Gradients of the arguments of CrossbarFunction::forward, in their order.
struct CrossbarGradients {
  Variable x;
  Variable w;
  Variable adc_lo;  ///< never: a whole number
  Variable adc_lsb;

  variable_list in_order() const { return {x, w, adc_lo, adc_lsb, Variable()}; }
};

/// What a forward keeps for its backward.
struct KeptProduct {
  Variable x;
  Variable w;
  CrossbarCall call;

  void save(const CrossbarOperator& backward, AutogradContext* ctx) const {
    ctx->save_for_backward({x, w, call.adc_lo.value_or(Variable()), call.adc_lsb.value_or(Variable())});
    call.save(backward, ctx->saved_data);
  }

  static KeptProduct load(const CrossbarOperator& backward, AutogradContext* ctx) {
    const variable_list saved = ctx->get_saved_variables();
    const auto optional = [](const Variable& tensor) {
      return tensor.defined() ? std::optional(tensor) : std::nullopt;
    };
    KeptProduct kept{saved[0], saved[1], CrossbarCall::load(backward, ctx->saved_data)};
    kept.call.adc_lo = optional(saved[2]);
    kept.call.adc_lsb = optional(saved[3]);
    return kept;
  }

  WantedInputs wanted(const AutogradContext& ctx) const {
    // Autograd numbers the tensors that are there.
    std::size_t number = 0;
    const auto is_wanted = [&](bool there) { return there && ctx.needs_input_grad(number++); };
    WantedInputs found;
    found.x = is_wanted(true);
    found.w = is_wanted(true);
    is_wanted(call.adc_lo.has_value());
    found.adc_lsb = is_wanted(call.adc_lsb.has_value());
    return found;
  }
};

/// Op: names of the forward and the backward operator (kForward, kBackward), and
/// `static void dense(kept, grad, wanted, gradients)`, the straight-through gradients of x and w for that of one chip's
/// result; they are taken where the converters do not enter.
template <typename Op>
class CrossbarFunction : public torch::autograd::Function<CrossbarFunction<Op>> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x_q, const Variable& w_q,
                          const std::optional<Variable>& /*adc_lo*/, const std::optional<Variable>& /*adc_lsb*/,
                          const CrossbarCall& call) {
    at::AutoDispatchBelowADInplaceOrView guard;
    KeptProduct{x_q, w_q, call}.save(Op::kBackward, ctx);
    return call_crossbar<Op::kForward>({x_q, w_q}, call).front().toTensor();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const KeptProduct kept = KeptProduct::load(Op::kBackward, ctx);
    WantedInputs wanted = kept.wanted(*ctx);
    CrossbarGradients gradients;
    if (kept.call.adc_grad != "clip") {
      if (wanted.x || wanted.w) {
        // Chips share their operands.
        Op::dense(kept, kept.call.chips.has_value() ? grads[0].sum(0) : grads[0], wanted, gradients);
      }
      wanted.x = wanted.w = false;
    }
    if (!wanted.any()) return gradients.in_order();
    const torch::jit::Stack found = call_crossbar<Op::kBackward>({grads[0], kept.x, kept.w}, kept.call, wanted);
    if (wanted.x) gradients.x = found[0].toTensor().to(kept.x.scalar_type());
    if (wanted.w) gradients.w = found[1].toTensor().to(kept.w.scalar_type());
    if (wanted.adc_lsb) gradients.adc_lsb = found[2].toTensor();
    return gradients.in_order();
  }
};

/// The forward operator under autograd.
template <typename Op>
void crossbar_autograd(const TakenCall& taken, torch::jit::Stack& results) {
  torch::jit::push(results, CrossbarFunction<Op>::apply(taken.operands[0], taken.operands[1], taken.call.adc_lo,
                                                        taken.call.adc_lsb, taken.call));
}

}  // namespace cimq::ops
