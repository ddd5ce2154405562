// The specification in code (docs/numbers.md): one loop per index of the equations, nothing packed, nothing skipped.
#include "kernels/crossbar_mvm.h"

#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "common/bits.h"
#include "common/error.h"
#include "kernels/formula/adc.h"
#include "kernels/noise/read_noise.h"
#include "kernels/programmed_cells.h"

namespace cimq::kernels {
namespace {

struct Layer {
  const MvmPlan& plan;
  const std::vector<std::int16_t>& conductances;  // [n_w][polarities][outputs][inputs], where fractional
  const std::int8_t* w;
  const ColumnNoise* noise;  // null: no read noise
};

/// One batch row: its activations, and what is random about its access.
struct Access {
  const std::uint8_t* x;
  PhiloxCounter key;
};

/// What the drivers apply for an activation: its bits, or its value shifted to be non-negative.
std::uint32_t applied_bits(const MvmPlan& plan, std::uint8_t raw) {
  const std::int32_t shifted = activation_value(raw, plan.act_signed) + plan.input_shift;
  return static_cast<std::uint32_t>(shifted) & low_mask(plan.act_bits);
}

/// The same as a number: sum of digit weights times digits.
std::int64_t applied_value(const MvmPlan& plan, std::uint8_t raw) {
  std::int64_t value = 0;
  for (int i = 0; i < plan.n_x; ++i) {
    value += std::int64_t{plan.digit_weights[static_cast<std::size_t>(i)]} *
             digit_of(applied_bits(plan, raw), i, plan.dac_bits);
  }
  return value;
}

/// G[s, k, o] of one column of a pair (polarity 0 or 1): levels, or 1/256 levels where they are fractional.
std::int64_t conductance(const Layer& layer, std::int64_t o, std::int64_t k, int slice, int polarity) {
  const MvmPlan& plan = layer.plan;
  if (!plan.fractional) return cell_level(plan, layer.w[o * plan.inputs + k], slice, polarity);
  const std::int64_t plane = slice * plan.polarities() + polarity;
  return layer.conductances[static_cast<std::size_t>((plane * plan.outputs + o) * plan.inputs + k)] -
         plan.cancelled_base();
}

/// I[t, i, s] of one column.
std::int64_t column_current(const Layer& layer, const std::uint8_t* x, std::int64_t o, std::int64_t tile, int digit,
                            int slice, int polarity) {
  const MvmPlan& plan = layer.plan;
  const std::int64_t begin = tile * plan.inputs_per_tile;
  const std::int64_t end = std::min(plan.inputs, begin + plan.inputs_per_tile);
  std::int64_t current = 0;
  for (std::int64_t k = begin; k < end; ++k) {
    current += std::int64_t{digit_of(applied_bits(plan, x[k]), digit, plan.dac_bits)} *
               conductance(layer, o, k, slice, polarity);
  }
  return current;
}

std::int64_t convert(const MvmPlan& plan, const SlicePlan& slice, std::int64_t current) {
  if (plan.ideal) return current;
  return adc_code(static_cast<std::int32_t>(current - slice.lo * plan.unit()), slice.inv_lsb, plan.code_min,
                  plan.code_max);
}

/// V of one column: sum of digit^2 * variance.
std::int64_t column_variance(const Layer& layer, const std::uint8_t* x, std::int64_t o, std::int64_t tile, int digit,
                             int slice, int polarity) {
  const MvmPlan& plan = layer.plan;
  const std::int64_t begin = tile * plan.inputs_per_tile;
  const std::int64_t end = std::min(plan.inputs, begin + plan.inputs_per_tile);
  const std::int64_t plane = slice * plan.polarities() + polarity;
  std::int64_t variance = 0;
  for (std::int64_t k = begin; k < end; ++k) {
    const std::int64_t value = digit_of(applied_bits(plan, x[k]), digit, plan.dac_bits);
    const std::int32_t g = layer.conductances[static_cast<std::size_t>((plane * plan.outputs + o) * plan.inputs + k)];
    variance += value * value * (plan.reads == ReadModel::kConstant ? 1 : cell_variance(g, plan.read_shift));
  }
  return variance;
}

/// Read noise of what one converter sees: the column of `polarity`, or both of a pair (polarity -1).
std::int64_t read_noise(const Layer& layer, const Access& access, std::int64_t o, std::int64_t tile, int digit,
                        int slice, int polarity) {
  if (layer.noise == nullptr) return 0;
  std::int64_t variance = 0;
  for (int p = 0; p < layer.plan.polarities(); ++p) {
    if (polarity < 0 || p == polarity) variance += column_variance(layer, access.x, o, tile, digit, slice, p);
  }
  const std::uint64_t column =
      column_index(layer.plan.separate_columns, layer.noise->first_output() + o, std::max(polarity, 0));
  const PhiloxCounter words = column_words(access.key, column >> 2, tile, digit, slice);
  return layer.noise->sample(variance, words.word[column & 3U]);
}

/// C_s = sum over t, i of digit weight * code.
std::int64_t slice_sum(const Layer& layer, const Access& access, std::int64_t o, int s) {
  const std::uint8_t* x = access.x;
  const MvmPlan& plan = layer.plan;
  const SlicePlan slice = plan.range(s, o);
  const bool pair = plan.mapping != Mapping::kOffset;
  std::int64_t sum = 0;
  for (std::int64_t t = 0; t < plan.row_tiles; ++t) {
    for (int i = 0; i < plan.n_x; ++i) {
      const std::int64_t positive = column_current(layer, x, o, t, i, s, 0);
      const std::int64_t negative = pair ? column_current(layer, x, o, t, i, s, 1) : 0;
      std::int64_t code = 0;
      if (plan.separate_columns) {
        code = convert(plan, slice, positive + read_noise(layer, access, o, t, i, s, 0)) -
               convert(plan, slice, negative + read_noise(layer, access, o, t, i, s, 1));
      } else {
        code = convert(plan, slice, positive - negative + read_noise(layer, access, o, t, i, s, -1));
      }
      sum += plan.digit_weights[static_cast<std::size_t>(i)] * code;
    }
  }
  return sum;
}

/// What is subtracted digitally: the input shift and the weight offset.
std::int64_t correction(const Layer& layer, const std::uint8_t* x, std::int64_t o) {
  const MvmPlan& plan = layer.plan;
  std::int64_t weights = 0;
  std::int64_t applied = 0;
  for (std::int64_t k = 0; k < plan.inputs; ++k) {
    weights += layer.w[o * plan.inputs + k];
    applied += applied_value(plan, x[k]);
  }
  return -plan.input_shift * weights - plan.weight_shift * applied;
}

std::int32_t result(const Layer& layer, const Access& access, std::int64_t o, std::int32_t /*type*/) {
  std::int64_t y = correction(layer, access.x, o);
  for (int s = 0; s < layer.plan.n_w; ++s) {
    y += layer.plan.slices[static_cast<std::size_t>(s)].weight * slice_sum(layer, access, o, s);
  }
  return static_cast<std::int32_t>(y);
}

float result(const Layer& layer, const Access& access, std::int64_t o, float /*type*/) {
  float y = 0.0F;
  for (int s = 0; s < layer.plan.n_w; ++s) {
    y += static_cast<float>(slice_sum(layer, access, o, s)) * layer.plan.range(s, o).scale;
  }
  y += layer.plan.lo_constant(o);
  return y + static_cast<float>(correction(layer, access.x, o));
}

template <typename T>
void run_reference(const MvmProblem& problem, const std::uint8_t* x, std::int64_t batch, T* y,
                   std::uint64_t first_access) {
  const auto& [hardware, w, outputs, inputs, options] = problem;
  const MvmPlan plan = problem.plan();
  check(plan.exact == std::is_same_v<T, std::int32_t>, "crossbar_mvm_reference: this configuration gives ",
        plan.exact ? "int32" : "float32", " results");
  check(batch >= 0, "crossbar_mvm_reference: batch must be at least 0, got ", batch);
  check_weights(w, outputs * inputs, options.weight_bits);
  check_activations(x, batch * inputs, options.act_bits, options.act_signed);
  std::vector<std::int16_t> conductances;
  if (plan.fractional) conductances = programmed_cells_reference(hardware, plan, options, w);
  std::optional<ColumnNoise> noise;
  if (plan.reads != ReadModel::kNone) noise.emplace(hardware, plan, options);
  const Layer layer{plan, conductances, w, noise ? &*noise : nullptr};
  for (std::int64_t b = 0; b < batch; ++b) {
    Access access{x + b * inputs, {}};
    if (noise) access.key = noise->key(first_access + static_cast<std::uint64_t>(b));
    for (std::int64_t o = 0; o < outputs; ++o) y[b * outputs + o] = result(layer, access, o, T{});
  }
}

}  // namespace

void crossbar_mvm_reference(const MvmProblem& problem, const std::uint8_t* x, std::int64_t batch, std::int32_t* y,
                            std::uint64_t first_access) {
  run_reference(problem, x, batch, y, first_access);
}

void crossbar_mvm_reference(const MvmProblem& problem, const std::uint8_t* x, std::int64_t batch, float* y,
                            std::uint64_t first_access) {
  run_reference(problem, x, batch, y, first_access);
}

}  // namespace cimq::kernels
