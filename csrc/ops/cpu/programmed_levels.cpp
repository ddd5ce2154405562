#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "common/cell_model.h"
#include "common/rounding.h"
#include "kernels/cpu/program/programmed_cells.h"
#include "kernels/crossbar_mvm.h"
#include "ops/support/checks.h"
#include "ops/support/crossbar_args.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kProgrammedLevels.name;

at::Tensor programmed_levels_cpu(const at::Tensor& w_q, const CrossbarCall& call) {
  check_cpu(kName, "w_q", w_q);
  TORCH_CHECK_VALUE(w_q.dim() == 2, kName, ": w_q must be [outputs, inputs], got shape ", w_q.sizes());
  constexpr std::int64_t kWordMax = std::numeric_limits<std::uint32_t>::max();
  TORCH_CHECK_VALUE(call.chip >= 0 && call.chip <= kWordMax && call.layer >= 0 && call.layer <= kWordMax, kName,
                    ": chip and layer must be in 0..", kWordMax, ", got ", call.chip, " and ", call.layer);
  const CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(call.weight_bits));
  return translate_errors(kName, [&] {
    auto machine = *args.hardware;
    machine.adc = Adc{};  // neither the converter nor read noise matters to what cells hold
    machine.cell.read = ReadNoise{};
    const auto* weights = w.const_data_ptr<std::int8_t>();
    const auto plan = kernels::MvmProblem{machine, weights, w.size(0), w.size(1), args.options}.plan();
    kernels::check_weights(weights, w.numel(), args.options.weight_bits);
    at::Tensor levels = at::empty({plan.n_w, plan.polarities(), w.size(0), w.size(1)}, w.options().dtype(at::kInt));
    auto* out = levels.mutable_data_ptr<std::int32_t>();
    if (plan.fractional) {
      const kernels::cpu::ProgrammedCells cells(machine, plan, args.options, weights);
      std::copy(cells.values().begin(), cells.values().end(), out);
      return levels;
    }
    const auto base = static_cast<std::int32_t>(round_half_even(base_levels(machine) * kernels::kConductanceUnit));
    for (int s = 0; s < plan.n_w; ++s) {
      for (int polarity = 0; polarity < plan.polarities(); ++polarity) {
        for (std::int64_t index = 0; index < w.numel(); ++index) {
          *out++ = base + kernels::cell_level(plan, weights[index], s, polarity) * kernels::kConductanceUnit;
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
