// The specification in code (docs/numbers.md): one loop per index of the equations, nothing packed, nothing skipped.
#include "kernels/crossbar_mvm.h"

#include <algorithm>
#include <type_traits>

#include "common/bits.h"
#include "common/error.h"
#include "kernels/adc.h"
#include "kernels/cell_noise.h"

namespace cimq::kernels {
namespace {

struct Layer {
  const MvmPlan& plan;
  const CellNoise& noise;
  const MvmOptions& options;
  const std::int8_t* w;
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

/// G[s, k, o] of one column of a pair (polarity 0 or 1): levels, or 1/256 levels when cells vary.
std::int64_t conductance(const Layer& layer, std::int64_t o, std::int64_t k, int slice, int polarity) {
  const MvmPlan& plan = layer.plan;
  const std::int32_t level = cell_level(plan, layer.w[o * plan.inputs + k], slice, polarity);
  if (!plan.varies) return level;
  return layer.noise.conductance(level, layer.options.first_output + o, k, plan.inputs, slice, polarity);
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
  const std::int64_t unit = plan.varies ? kConductanceUnit : 1;
  return adc_code(static_cast<std::int32_t>(current - slice.lo * unit), slice.inv_lsb, plan.code_min, plan.code_max);
}

/// C_s = sum over t, i of digit weight * code.
std::int64_t slice_sum(const Layer& layer, const std::uint8_t* x, std::int64_t o, int s) {
  const MvmPlan& plan = layer.plan;
  const SlicePlan& slice = plan.slices[static_cast<std::size_t>(s)];
  const bool pair = plan.mapping != Mapping::kOffset;
  std::int64_t sum = 0;
  for (std::int64_t t = 0; t < plan.row_tiles; ++t) {
    for (int i = 0; i < plan.n_x; ++i) {
      const std::int64_t positive = column_current(layer, x, o, t, i, s, 0);
      const std::int64_t negative = pair ? column_current(layer, x, o, t, i, s, 1) : 0;
      std::int64_t code = 0;
      if (plan.separate_columns) {
        code = convert(plan, slice, positive) - convert(plan, slice, negative);
      } else {
        code = convert(plan, slice, positive - negative);
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

std::int32_t result(const Layer& layer, const std::uint8_t* x, std::int64_t o, std::int32_t /*type*/) {
  std::int64_t y = correction(layer, x, o);
  for (int s = 0; s < layer.plan.n_w; ++s) {
    y += layer.plan.slices[static_cast<std::size_t>(s)].weight * slice_sum(layer, x, o, s);
  }
  return static_cast<std::int32_t>(y);
}

float result(const Layer& layer, const std::uint8_t* x, std::int64_t o, float /*type*/) {
  float y = 0.0F;
  for (int s = 0; s < layer.plan.n_w; ++s) {
    y += static_cast<float>(slice_sum(layer, x, o, s)) * layer.plan.slices[static_cast<std::size_t>(s)].scale;
  }
  y += layer.plan.lo_constant();
  return y + static_cast<float>(correction(layer, x, o));
}

template <typename T>
void run_reference(const Hardware& hardware, const std::int8_t* w, std::int64_t outputs, std::int64_t inputs,
                   const MvmOptions& options, const std::uint8_t* x, std::int64_t batch, T* y) {
  const MvmPlan plan = make_mvm_plan(hardware, outputs, inputs, options);
  check(plan.exact == std::is_same_v<T, std::int32_t>, "crossbar_mvm_reference: this configuration gives ",
        plan.exact ? "int32" : "float32", " results");
  check(batch >= 0, "crossbar_mvm_reference: batch must be at least 0, got ", batch);
  check_weights(w, outputs * inputs, options.weight_bits);
  check_activations(x, batch * inputs, options.act_bits, options.act_signed);
  const CellNoise noise(hardware, options);
  const Layer layer{plan, noise, options, w};
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t o = 0; o < outputs; ++o) y[b * outputs + o] = result(layer, x + b * inputs, o, T{});
  }
}

}  // namespace

void crossbar_mvm_reference(const Hardware& hardware, const std::int8_t* w, std::int64_t outputs, std::int64_t inputs,
                            const MvmOptions& options, const std::uint8_t* x, std::int64_t batch, std::int32_t* y) {
  run_reference(hardware, w, outputs, inputs, options, x, batch, y);
}

void crossbar_mvm_reference(const Hardware& hardware, const std::int8_t* w, std::int64_t outputs, std::int64_t inputs,
                            const MvmOptions& options, const std::uint8_t* x, std::int64_t batch, float* y) {
  run_reference(hardware, w, outputs, inputs, options, x, batch, y);
}

}  // namespace cimq::kernels
