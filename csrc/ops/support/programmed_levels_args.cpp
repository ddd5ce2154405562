#include "ops/support/programmed_levels_args.h"

#include <limits>
#include <utility>

#include "common/cell_model.h"
#include "common/rounding.h"
#include "ops/support/checks.h"

namespace cimq::ops {

LevelsRequest parse_levels(const char* op, const at::Tensor& w_q, const CrossbarCall& call) {
  TORCH_CHECK_VALUE(w_q.dim() == 2, op, ": w_q must be [outputs, inputs], got shape ", w_q.sizes());
  constexpr std::int64_t kWordMax = std::numeric_limits<std::uint32_t>::max();
  TORCH_CHECK_VALUE(call.chip >= 0 && call.chip <= kWordMax && call.layer >= 0 && call.layer <= kWordMax, op,
                    ": chip and layer must be in 0..", kWordMax, ", got ", call.chip, " and ", call.layer);
  CrossbarArgs args = parse_call(op, call, outputs_of(w_q));
  Hardware machine = *args.hardware;
  machine.adc = Adc{};
  machine.cell.read = ReadNoise{};
  auto plan =
      translate_errors(op, [&] { return kernels::make_mvm_plan(machine, w_q.size(0), w_q.size(1), args.options); });
  const auto base = static_cast<std::int32_t>(round_half_even(base_levels(machine) * kernels::kConductanceUnit));
  return {std::move(args), std::move(machine), std::move(plan), base};
}

}  // namespace cimq::ops
