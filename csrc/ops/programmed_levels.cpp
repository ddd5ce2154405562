// cimq::programmed_levels: what the cells of a layer conduct, for the written-out specification and for looking at.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "common/cell_model.h"
#include "common/rounding.h"
#include "kernels/plan/mvm_plan.h"
#include "kernels/programmed_cells.h"
#include "ops/support/checks.h"
#include "ops/support/hardware_cache.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "programmed_levels";

/// [n_w, polarities, outputs, inputs] int32 in 1/256 level, what level 0 conducts included; polarities: 2 for a
/// differential mapping, else 1.
at::Tensor programmed_levels_cpu(const at::Tensor& w_q, c10::string_view hardware, std::int64_t weight_bits,
                                 std::int64_t seed, std::int64_t chip, std::int64_t layer, std::int64_t first_output) {
  check_cpu(kName, "w_q", w_q);
  TORCH_CHECK_VALUE(w_q.dim() == 2, kName, ": w_q must be [outputs, inputs], got shape ", w_q.sizes());
  TORCH_CHECK_VALUE(weight_bits >= 1 && weight_bits <= 8, kName, ": weight_bits must be in 1..8, got ", weight_bits);
  constexpr std::int64_t kWordMax = std::numeric_limits<std::uint32_t>::max();
  TORCH_CHECK_VALUE(chip >= 0 && chip <= kWordMax && layer >= 0 && layer <= kWordMax, kName,
                    ": chip and layer must be in 0..", kWordMax, ", got ", chip, " and ", layer);
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(weight_bits));
  return translate_errors(kName, [&] {
    auto machine = *cached_hardware(std::string(hardware));
    machine.adc = Adc{};  // neither the converter nor read noise matters to what cells hold
    machine.cell.read = ReadNoise{};
    kernels::MvmOptions options;
    options.weight_bits = static_cast<int>(weight_bits);
    options.seed = static_cast<std::uint64_t>(seed);
    options.chip = static_cast<std::uint32_t>(chip);
    options.layer = static_cast<std::uint32_t>(layer);
    options.first_output = first_output;
    const auto plan = kernels::make_mvm_plan(machine, w.size(0), w.size(1), options);
    const auto* weights = w.const_data_ptr<std::int8_t>();
    kernels::check_weights(weights, w.numel(), options.weight_bits);
    at::Tensor levels = at::empty({plan.n_w, plan.polarities(), w.size(0), w.size(1)}, w.options().dtype(at::kInt));
    auto* out = levels.mutable_data_ptr<std::int32_t>();
    if (plan.fractional) {
      const kernels::cpu::ProgrammedCells cells(machine, plan, options, weights);
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

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "programmed_levels(Tensor w_q, str hardware, int weight_bits, int seed=0, int chip=0, int layer=0, "
      "int first_output=0) -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("programmed_levels", TORCH_FN(cimq::ops::programmed_levels_cpu)); }
