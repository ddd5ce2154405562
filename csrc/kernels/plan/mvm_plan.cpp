#include "kernels/plan/mvm_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <ostream>
#include <utility>

#include "common/bits.h"
#include "common/cell_model.h"
#include "common/error.h"
#include "common/rounding.h"
#include "kernels/formula/adc.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels {
namespace {

constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();

void check_range(const char* key, std::int64_t value, std::int64_t lowest, std::int64_t highest) {
  check(value >= lowest && value <= highest, "crossbar_mvm: ", key, " must lie in ", lowest, "..", highest, ", got ",
        value);
}

void check_arguments(const Hardware& hw, std::int64_t outputs, std::int64_t inputs, const MvmOptions& options) {
  check_range("outputs", outputs, 1, kInt32Max);
  check_range("inputs", inputs, 1, kInt32Max);
  check_range("weight_bits", options.weight_bits, 1, 8);
  check_range("act_bits", options.act_bits, 1, 8);
  check_range("first_output", options.first_output, 0, kInt32Max);
  check_range("rows", hw.rows, 1, 1 << 20);
  check_range("cols", hw.cols, 1, 1 << 20);
  check_range("cell_bits", hw.cell_bits, 1, 8);
  check_range("dac_bits", hw.dac_bits, 1, 8);
  if (hw.adc.bits) check_range("adc.bits", *hw.adc.bits, 1, 16);
  check(inputs_per_tile(hw) >= 1,
        "crossbar_mvm: mapping differential_row needs rows >= 2 (an input drives a pair), got ", hw.rows);
  check(!(hw.sign_magnitude && hw.mapping == Mapping::kOffset),
        "crossbar_mvm: sign_magnitude needs a differential mapping, got mapping offset");
  check_cells(hw);
}

void plan_layout(MvmPlan& plan, const Hardware& hw) {
  AppliedInput input = applied_input(hw, plan.act_bits, plan.act_signed);
  plan.digit_weights = std::move(input.digit_weights);
  plan.input_shift = input.shift;
  plan.n_x = static_cast<int>(plan.digit_weights.size());

  const StoredWeight stored = stored_weight(hw, plan.weight_bits);
  plan.weight_shift = stored.shift;
  plan.max_level = stored.max_level;
  plan.n_w = static_cast<int>(stored.slice_weights.size());
  plan.slices.resize(stored.slice_weights.size());
  for (std::size_t s = 0; s < plan.slices.size(); ++s) plan.slices[s].weight = stored.slice_weights[s];

  plan.inputs_per_tile = inputs_per_tile(hw);
  plan.row_tiles = ceil_div(plan.inputs, plan.inputs_per_tile);
  plan.rows_needed = physical_rows(plan.mapping, plan.inputs);
  plan.columns = physical_columns(plan.mapping, plan.outputs, plan.n_w);
}

/// Step of the converter in level units, before any calibration.
double array_lsb(const MvmPlan& plan, AdcRange range) {
  // A column that is converted on its own carries what level 0 conducts; elsewhere that is cancelled before.
  const double top =
      ((1 << plan.cell_bits) - 1) + (plan.separate_columns ? static_cast<double>(plan.base) / kConductanceUnit : 0.0);
  const double full_scale =
      static_cast<double>(plan.inputs_per_tile) * top * ((1 << plan.dac_bits) - 1) * (plan.signed_codes ? 2.0 : 1.0);
  const double lsb = full_scale / (plan.levels - 1);
  return range == AdcRange::kGranular ? std::max(1.0, lsb) : lsb;
}

/// A converter in messages: its slice, and its output where ranges are per column.
struct Place {
  int slice;
  std::int64_t output;  ///< -1: all
};
std::ostream& operator<<(std::ostream& out, const Place& place) {
  out << "slice " << place.slice;
  return place.output < 0 ? out : out << ", output " << place.output;
}

/// Calls visit(place, weight and range) for every range of the plan.
template <typename Visit>
void for_each_range(const MvmPlan& plan, const Visit& visit) {
  const std::int64_t columns = plan.by_column() ? plan.outputs : 1;
  for (int s = 0; s < plan.n_w; ++s) {
    for (std::int64_t o = 0; o < columns; ++o) visit(Place{s, plan.by_column() ? o : -1}, plan.range(s, o));
  }
}

void check_given_ranges(const MvmPlan& plan, const Hardware& hw, const MvmOptions& options) {
  const auto slices = static_cast<std::size_t>(plan.n_w);
  if (options.adc_columns == 0) {
    check(options.adc_lo.size() == slices && options.adc_lsb.size() == slices, "crossbar_mvm: adc.range ",
          name_of(hw.adc.range), " needs adc_lo and adc_lsb with one value per weight slice (", slices, "), got ",
          options.adc_lo.size(), " and ", options.adc_lsb.size());
    return;
  }
  check(hw.adc.granularity == AdcGranularity::kColumn,
        "crossbar_mvm: adc_lo and adc_lsb with one value per column belong to adc.granularity column, got ",
        name_of(hw.adc.granularity));
  check(options.adc_columns > 0 && options.first_output + plan.outputs <= options.adc_columns,
        "crossbar_mvm: adc_lo and adc_lsb must have a column for every output, of which there are ",
        options.first_output + plan.outputs, ", got ", options.adc_columns);
  const std::size_t count = slices * static_cast<std::size_t>(options.adc_columns);
  check(options.adc_lo.size() == count && options.adc_lsb.size() == count, "crossbar_mvm: adc_lo and adc_lsb must be [",
        slices, ", ", options.adc_columns, "], one value per weight slice and output, got ", options.adc_lo.size(),
        " and ", options.adc_lsb.size(), " values");
}

/// Range of one converter; `slice.lo` and `slice.lsb` are set.
void finish_range(const MvmPlan& plan, SlicePlan& slice, const Place& place) {
  check(std::isfinite(slice.lsb) && slice.lsb > 0.0, "crossbar_mvm: adc_lsb must be finite and above 0, got ",
        slice.lsb, " for ", place);
  check(!plan.signed_codes || slice.lo == 0,
        "crossbar_mvm: adc_lo must be 0 for a signed quantity (its codes are symmetric), got ", slice.lo, " for ",
        place);
  slice.inv_lsb = static_cast<float>(1.0 / (plan.unit() * slice.lsb));
  slice.scale = static_cast<float>(static_cast<double>(slice.weight) * slice.lsb);
  check(std::isfinite(slice.inv_lsb) && std::isfinite(slice.scale) && slice.inv_lsb > 0.0F, "crossbar_mvm: adc_lsb ",
        slice.lsb, " of ", place, " is outside what float32 can hold");
}

void plan_column_ranges(MvmPlan& plan, const MvmOptions& options) {
  ColumnRanges ranges;
  for (int s = 0; s < plan.n_w; ++s) {
    for (std::int64_t o = 0; o < plan.outputs; ++o) {
      const auto index = static_cast<std::size_t>(s * options.adc_columns + options.first_output + o);
      SlicePlan range = plan.slices[static_cast<std::size_t>(s)];
      range.lo = options.adc_lo[index];
      range.lsb = options.adc_lsb[index];
      finish_range(plan, range, {s, o});
      ranges.lo.push_back(range.lo);
      ranges.lsb.push_back(range.lsb);
      ranges.inv_lsb.push_back(range.inv_lsb);
      ranges.scale.push_back(range.scale);
    }
  }
  plan.column_ranges = std::move(ranges);
  // Of the whole layer, so that all groups of a convolution have results of one type.
  plan.exact = std::all_of(options.adc_lsb.begin(), options.adc_lsb.end(), [](double lsb) { return lsb == 1.0; }) &&
               std::all_of(options.adc_lo.begin(), options.adc_lo.end(), [](std::int32_t lo) { return lo == 0; });
}

void plan_converter(MvmPlan& plan, const Hardware& hw, const MvmOptions& options) {
  const bool given = hw.adc.bits && (hw.adc.range == AdcRange::kCalibrated || hw.adc.range == AdcRange::kLearned);
  if (given) {
    check_given_ranges(plan, hw, options);
  } else {
    check(options.adc_lo.empty() && options.adc_lsb.empty(),
          "crossbar_mvm: adc_lo and adc_lsb belong to adc.range calibrated or learned, got ",
          hw.adc.bits ? name_of(hw.adc.range) : "an ideal converter");
  }
  plan.ideal = !hw.adc.bits.has_value();
  plan.given_range = given;
  if (plan.ideal) {
    for (SlicePlan& slice : plan.slices) {
      slice.lsb = 1.0 / plan.unit();
      slice.scale = static_cast<float>(static_cast<double>(slice.weight) * slice.lsb);
    }
    return;
  }
  const int bits = *hw.adc.bits;
  const bool column_pairs = plan.mapping == Mapping::kDifferentialColumn;
  plan.separate_columns = converts_columns_apart(hw);
  plan.signed_codes = converts_signed(hw);
  check(!plan.signed_codes || bits >= 2, "crossbar_mvm: a converter of a signed quantity (mapping ",
        name_of(plan.mapping), column_pairs ? ", adc.placement differential" : "", ") needs adc.bits >= 2, got ", bits);
  const CodeRange codes = code_range(bits, plan.signed_codes);
  plan.levels = codes.levels;
  plan.code_min = codes.min;
  plan.code_max = codes.max;
  if (given && options.adc_columns != 0) {
    plan_column_ranges(plan, options);
    return;
  }
  for (int s = 0; s < plan.n_w; ++s) {
    SlicePlan& slice = plan.slices[static_cast<std::size_t>(s)];
    slice.lo = given ? options.adc_lo[static_cast<std::size_t>(s)] : 0;
    slice.lsb = given ? options.adc_lsb[static_cast<std::size_t>(s)] : array_lsb(plan, hw.adc.range);
    finish_range(plan, slice, {s, -1});
  }
}

/// |x . w| and what the slices add up to, with the widths of this layer.
void check_bounds(MvmPlan& plan, const Hardware& hardware) {
  const std::int64_t inputs = std::min(plan.inputs, plan.inputs_per_tile);
  const std::int64_t max_digit = std::min((1 << plan.dac_bits) - 1, (1 << plan.act_bits) - 1);
  const std::int64_t max_cell = plan.fractional ? CellTables::of(hardware)->largest(plan.max_level) : plan.max_level;
  plan.largest_current = inputs * max_digit * max_cell + plan_read_noise(plan, hardware, max_digit, max_cell);
  const std::int64_t unit = plan.unit();
  std::int64_t digits = 0;
  for (const std::int32_t weight : plan.digit_weights) digits += std::abs(weight);

  const std::int64_t max_x = largest_activation(plan.act_bits, plan.act_signed);
  const std::int64_t max_w = largest_weight(plan.weight_bits);
  check(plan.inputs <= kInt32Max / (max_x * max_w), "crossbar_mvm: the result must fit int32, but ", plan.inputs,
        " inputs times ", max_x, " times ", max_w, " can reach ", static_cast<double>(plan.inputs) * max_x * max_w,
        " > 2147483647; split the layer or use fewer bits");

  plan.exact = plan.exact && !plan.fractional;
  if (!plan.ideal) {
    for_each_range(plan, [&](const Place& place, const SlicePlan& slice) {
      const std::int64_t lo = std::abs(static_cast<std::int64_t>(slice.lo)) * unit;
      check(plan.largest_current + lo <= kInt32Max, "crossbar_mvm: the current of a tile must fit int32",
            plan.fractional ? " in 1/256 level" : "", ", but ", place, " can reach ", plan.largest_current + lo,
            " > 2147483647; use fewer rows, dac_bits or cell_bits");
      plan.exact = plan.exact && slice.lsb == 1.0 && slice.lo == 0;
    });
  }
  plan.lossless = plan.exact && (plan.ideal || plan.largest_current <= plan.code_max);
  if (plan.ideal && plan.reads != ReadModel::kNone) {
    // Each access has noise of its own: the digits of a tile are added up as they are read, in int32.
    check(digits * plan.largest_current <= kInt32Max,
          "crossbar_mvm: with read noise the digits of a tile must add up "
          "to int32 in 1/256 level, but can reach ",
          digits * plan.largest_current, " > 2147483647; use fewer rows, act_bits or cell_bits");
  }
  if (plan.ideal) {
    // Sums of currents: int64 wherever int32 could be left, so that no bound applies beyond the one on the result.
    plan.largest_sum = plan.row_tiles * digits * plan.largest_current;
    return;
  }
  std::vector<std::int64_t> largest(plan.slices.size(), 0);  // |C_s|
  for_each_range(plan, [&](const Place& place, const SlicePlan& slice) {
    std::int64_t code = 0;
    for (const std::int64_t current : {-plan.largest_current, std::int64_t{0}, plan.largest_current}) {
      const auto shifted = static_cast<std::int32_t>(current - slice.lo * unit);
      const std::int64_t c = adc_code(shifted, slice.inv_lsb, plan.code_min, plan.code_max);
      code = std::max(code, std::abs(c));
    }
    const std::int64_t sum = plan.row_tiles * digits * code;
    check(plan.lossless || sum <= kInt32Max, "crossbar_mvm: the sum of codes of a slice must fit int32, but ", place,
          " can reach ", sum, " > 2147483647 (", plan.row_tiles, " row tiles, codes up to ", code,
          "); use more rows per tile, fewer adc.bits or act_bits");
    std::int64_t& of_slice = largest[static_cast<std::size_t>(place.slice)];
    of_slice = std::max(of_slice, sum);
  });
  plan.largest_sum = *std::max_element(largest.begin(), largest.end());
  std::int64_t largest_result = 0;
  for (std::size_t s = 0; s < largest.size(); ++s) largest_result += plan.slices[s].weight * largest[s];
  if (plan.exact && !plan.lossless) {
    largest_result += plan.inputs * ((std::int64_t{1} << plan.act_bits) * (max_w + plan.weight_shift));
    check(largest_result <= kInt32Max, "crossbar_mvm: the result must fit int32, but slices and corrections can reach ",
          largest_result, " > 2147483647; use fewer adc.bits, act_bits or weight_bits");
  }
}

}  // namespace

SlicePlan MvmPlan::range(int slice, std::int64_t output) const {
  SlicePlan found = slices[static_cast<std::size_t>(slice)];
  if (!by_column()) return found;
  const auto index = static_cast<std::size_t>(slice * outputs + output);
  found.lo = column_ranges.lo[index];
  found.lsb = column_ranges.lsb[index];
  found.inv_lsb = column_ranges.inv_lsb[index];
  found.scale = column_ranges.scale[index];
  return found;
}

bool MvmPlan::zero_input_is_zero_code() const {
  const auto starts_at_0 = [](std::int32_t lo) { return lo >= 0; };
  if (ideal) return true;
  if (by_column()) return std::all_of(column_ranges.lo.begin(), column_ranges.lo.end(), starts_at_0);
  return std::all_of(slices.begin(), slices.end(), [&](const SlicePlan& slice) { return starts_at_0(slice.lo); });
}

float MvmPlan::lo_constant(std::int64_t output) const {
  if (mapping != Mapping::kOffset) return 0.0F;
  std::int64_t digits = 0;
  for (const std::int32_t weight : digit_weights) digits += weight;
  std::int64_t sum = 0;
  for (int s = 0; s < n_w; ++s) {
    const SlicePlan column = range(s, output);
    sum += column.weight * column.lo * row_tiles * digits;
  }
  return static_cast<float>(sum);
}

MvmPlan make_mvm_plan(const Hardware& hardware, std::int64_t outputs, std::int64_t inputs, const MvmOptions& options) {
  check_arguments(hardware, outputs, inputs, options);
  MvmPlan plan;
  plan.outputs = outputs;
  plan.inputs = inputs;
  plan.weight_bits = options.weight_bits;
  plan.act_bits = options.act_bits;
  plan.act_signed = options.act_signed;
  plan.mapping = hardware.mapping;
  plan.cell_bits = hardware.cell_bits;
  plan.dac_bits = hardware.dac_bits;
  plan.varies = hardware.varies();
  plan.fractional = hardware.fractional();
  plan_layout(plan, hardware);
  if (plan.fractional) plan.base = CellTables::of(hardware)->base();
  plan_converter(plan, hardware, options);
  check_bounds(plan, hardware);
  plan.collapses = plan.lossless && options.allow_collapse;
  return plan;
}

bool can_clip(const MvmPlan& plan, const SlicePlan& range) {
  constexpr std::int32_t kFar = 1 << 30;
  const std::int64_t lo = std::int64_t{range.lo} * plan.unit();
  const std::int64_t lowest = (plan.signed_codes || plan.fractional ? -plan.largest_current : 0) - lo;
  return adc_code(static_cast<std::int32_t>(plan.largest_current - lo), range.inv_lsb, -kFar, kFar) > plan.code_max ||
         adc_code(static_cast<std::int32_t>(lowest), range.inv_lsb, -kFar, kFar) < plan.code_min;
}

bool always_lossless(const Hardware& hardware) {
  if (hardware.fractional()) return false;
  if (!hardware.adc.bits) return true;
  if (hardware.adc.range == AdcRange::kCalibrated || hardware.adc.range == AdcRange::kLearned) return false;
  MvmPlan plan;
  plan.mapping = hardware.mapping;
  plan.cell_bits = hardware.cell_bits;
  plan.dac_bits = hardware.dac_bits;
  plan.inputs_per_tile = inputs_per_tile(hardware);
  plan.slices.resize(1);
  plan.n_w = 1;
  plan_converter(plan, hardware, {});
  // The largest current is the full scale, so a step of one level clips nothing.
  return plan.slices[0].lsb == 1.0 && array_lsb(plan, AdcRange::kFullScale) <= 1.0;
}

void check_weights(const std::int8_t* w, std::int64_t count, int weight_bits) {
  const int top = largest_weight(weight_bits);
  if (weight_bits > 1) {
    const auto limit = static_cast<std::int8_t>(top);
    std::uint8_t outside = 0;  // bytes throughout, so that the loop is a vector one
    for (std::int64_t j = 0; j < count; ++j) {
      outside = static_cast<std::uint8_t>(outside | static_cast<std::uint8_t>(w[j] > limit) |
                                          static_cast<std::uint8_t>(w[j] < -limit));
    }
    if (outside == 0) return;
  }
  for (std::int64_t j = 0; j < count; ++j) {
    const int value = w[j];
    if (weight_bits == 1) {
      check(value == 1 || value == -1, "crossbar_mvm: one-bit weights must be -1 or +1, got ", value, " at index ", j);
    } else {
      check(value >= -top && value <= top, "crossbar_mvm: weights of ", weight_bits, " bits must lie in ", -top, "..",
            top, ", got ", value, " at index ", j);
    }
  }
}

void check_activations(const std::uint8_t* x, std::int64_t count, int act_bits, bool act_signed) {
  if (act_bits == 8) return;  // every byte is a value
  const auto half = static_cast<std::uint8_t>(act_signed ? 1U << (act_bits - 1) : 0U);
  const unsigned outside = 0xFFU & ~low_mask(act_bits);
  std::uint8_t seen = 0;  // bytes throughout, so that the loop is a vector one
  for (std::int64_t j = 0; j < count; ++j)
    seen = static_cast<std::uint8_t>(seen | static_cast<std::uint8_t>(x[j] + half));
  if ((seen & outside) == 0U) return;
  for (std::int64_t j = 0; j < count; ++j) {
    const unsigned shifted = static_cast<std::uint8_t>(x[j] + half);
    check((shifted & outside) == 0U, "crossbar_mvm: ", act_signed ? "signed" : "unsigned", " activations of ", act_bits,
          " bits must lie in ", -int{half}, "..", static_cast<int>(low_mask(act_bits)) - int{half}, ", got ",
          activation_value(x[j], act_signed), " at index ", j);
  }
}

}  // namespace cimq::kernels
