#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/cpu/program/programmed_cells.h"
#include "ops/support/checks.h"
#include "ops/support/operands.h"
#include "ops/support/programmed_levels_args.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kProgrammedLevels.name;

at::Tensor programmed_levels_cpu(const at::Tensor& w_q, const CrossbarCall& call) {
  check_cpu(kName, "w_q", w_q);
  const LevelsRequest request = parse_levels(kName, w_q, call);
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(call.weight_bits));
  return translate_errors(kName, [&] {
    const auto* weights = w.const_data_ptr<std::int8_t>();
    const kernels::MvmPlan& plan = request.plan;
    kernels::check_weights(weights, w.numel(), plan.weight_bits);
    at::Tensor levels = at::empty({plan.n_w, plan.polarities(), w.size(0), w.size(1)}, w.options().dtype(at::kInt));
    auto* out = levels.mutable_data_ptr<std::int32_t>();
    if (plan.fractional) {
      const kernels::cpu::ProgrammedCells cells(request.machine, plan, request.args.options, weights);
      std::copy(cells.values().begin(), cells.values().end(), out);
      return levels;
    }
    for (int s = 0; s < plan.n_w; ++s) {
      for (int polarity = 0; polarity < plan.polarities(); ++polarity) {
        for (std::int64_t index = 0; index < w.numel(); ++index) {
          *out++ = request.base + kernels::cell_level(plan, weights[index], s, polarity) * kernels::kConductanceUnit;
        }
      }
    }
    return levels;
  });
}

void run(const TakenCall& taken, torch::jit::Stack& results) {
  torch::jit::push(results, programmed_levels_cpu(taken.operands[0], taken.call));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  using namespace cimq::ops;
  m.impl(kProgrammedLevels.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kProgrammedLevels, run>>());
}
