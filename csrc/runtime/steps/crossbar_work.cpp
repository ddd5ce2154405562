#include "runtime/steps/crossbar_work.h"

#include "kernels/cpu/mvm/crossbar_mvm.h"

namespace cimq::runtime {

void count_passes(const StepContext& context, const compiler::Node& node, const kernels::MvmPlan& plan) {
  if (plan.collapses) return;
  const bool folded = plan.ideal && plan.reads == kernels::ReadModel::kNone;  // digits are applied at once
  const int passes = plan.n_w * (folded ? 1 : plan.n_x) * (plan.separate_columns ? 2 : 1);
  context.budget.operate(node, saturating_product(operations_of(context.graph, node), passes - 1));
}

void count_layer(const StepContext& context, const compiler::Node& node, const Hardware& hardware,
                 const kernels::MvmPlan& plan, std::int64_t groups) {
  context.budget.keep(
      node, saturating_product(static_cast<std::uint64_t>(groups), kernels::cpu::programming_bytes(hardware, plan)));
  count_passes(context, node, plan);
}

}  // namespace cimq::runtime
