// Layers on hardware, made from a source of numbers: a random generator or the bytes of a fuzzer.
//
// A source has integer(low, high), real(low, high) and chance(p).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "kernels/crossbar_mvm.h"

namespace cimq::kernels::testing {

struct Case {
  Hardware hardware;
  MvmOptions options;
  std::int64_t outputs = 1;
  std::int64_t inputs = 1;
  std::int64_t batch = 1;
  std::uint64_t first_access = 0;

  std::string text() const {
    return message(outputs, "x", inputs, " batch ", batch, " w", options.weight_bits, " a", options.act_bits,
                   options.act_signed ? "s" : "u", " c", hardware.cell_bits, " d", hardware.dac_bits, " rows ",
                   hardware.rows, " ", name_of(hardware.mapping), hardware.sign_magnitude ? " sign-magnitude" : "",
                   " adc ", hardware.adc.bits.value_or(0), " ", name_of(hardware.adc.range), " ",
                   name_of(hardware.adc.placement), " columns ", options.adc_columns, " sigma ",
                   hardware.cell.programming.sigma_levels, " cell ", hardware.to_json(), " collapse ",
                   options.allow_collapse);
  }
};

template <typename Source>
std::vector<std::int8_t> random_weights(Source& random, std::int64_t count, int bits) {
  const int top = (1 << (bits - 1)) - 1;
  // Small weights are what trained layers have: they leave upper slices empty.
  const bool small = random.chance(0.3);
  std::vector<std::int8_t> w(static_cast<std::size_t>(count));
  for (std::int8_t& value : w) {
    if (bits == 1) {
      value = random.chance(0.5) ? 1 : -1;
    } else {
      value = static_cast<std::int8_t>(small ? random.integer(-1, 1) : random.integer(-top, top));
    }
  }
  return w;
}

template <typename Source>
std::vector<std::uint8_t> random_activations(Source& random, std::int64_t count, int bits, bool is_signed) {
  const std::int64_t low = is_signed ? -(1 << (bits - 1)) : 0;
  const std::int64_t high = low + (1 << bits) - 1;
  const std::int64_t limit = random.chance(0.3) ? std::max<std::int64_t>(low, 0) : high;  // empty upper digits
  const bool zeros = random.chance(0.3);
  std::vector<std::uint8_t> x(static_cast<std::size_t>(count));
  for (std::uint8_t& value : x) {
    value = zeros && random.chance(0.8) ? std::uint8_t{0} : static_cast<std::uint8_t>(random.integer(low, limit));
  }
  return x;
}

/// Any mix of what makes conductances differ from what was programmed.
template <typename Source>
void add_cell_effects(Source& random, Hardware& hw) {
  hw.cell_bits = static_cast<int>(random.integer(1, 6));
  if (random.chance(0.7)) {
    hw.cell.g_min_microsiemens = random.chance(0.2) ? 0.0 : random.real(0.1, 30.0);
    hw.cell.g_max_microsiemens = random.real(40.0, 200.0);
    if (random.chance(0.5)) hw.wires = {random.real(0.0, 20.0), random.real(0.0, 20.0), random.real(0.0, 1.0)};
  }
  switch (random.integer(0, 4)) {
    case 0:
      hw.cell.programming = {"proportional", 0.0, std::nullopt, random.real(0.0, 0.2)};
      break;
    case 1:
      hw.cell.programming = {"lognormal", 0.0, std::nullopt, std::nullopt, random.real(0.0, 0.3)};
      break;
    case 2:
      hw.cell.programming = {"polynomial"};
      hw.cell.programming.coefficients_levels = {0.2, random.real(-0.1, 0.1), 0.01};
      break;
    case 3: {
      hw.cell.programming = {"table"};
      std::vector<double> means;
      for (int level = 0; level < 1 << hw.cell_bits; ++level) means.push_back(level + random.real(0.0, 0.5));
      hw.cell.programming.means_levels = means;
      hw.cell.programming.sigmas_levels = std::vector<double>(means.size(), random.real(0.0, 0.3));
      break;
    }
    default:
      break;
  }
  if (random.chance(0.3)) hw.cell.stuck_at = {random.real(0.0, 0.2), random.real(0.0, 0.2)};
  if (random.chance(0.4)) {
    hw.cell.drift = {random.real(-0.05, 0.1), random.chance(0.5) ? 0.0 : random.real(0.0, 0.05), 1.0, 1000.0};
  }
  if (random.chance(0.3)) hw.cell.read = {"constant", random.real(0.0, 0.3)};
  if (random.chance(0.3)) hw.cell.read = {"proportional", 0.0, std::nullopt, random.real(0.0, 0.2)};
}

inline bool unipolar_codes(const Hardware& hw) {
  return hw.mapping == Mapping::kOffset ||
         (hw.mapping == Mapping::kDifferentialColumn && hw.adc.placement == AdcPlacement::kPerColumn);
}

/// Hardware and widths only; the caller sets the shape, then calls add_column_ranges.
template <typename Source>
Case random_configuration(Source& random) {
  Case c;
  Hardware& hw = c.hardware;
  hw.rows = static_cast<int>(random.integer(2, 40));
  hw.cell_bits = static_cast<int>(random.integer(1, 8));
  hw.dac_bits = random.chance(0.5) ? 1 : static_cast<int>(random.integer(1, 8));
  hw.mapping = static_cast<Mapping>(random.integer(0, 2));
  hw.sign_magnitude = hw.mapping != Mapping::kOffset && random.chance(0.3);
  hw.adc.placement = random.chance(0.5) ? AdcPlacement::kDifferential : AdcPlacement::kPerColumn;
  hw.adc.range = static_cast<AdcRange>(random.integer(0, 3));
  if (random.chance(0.85)) hw.adc.bits = static_cast<int>(random.integer(1, 16));
  if (random.chance(0.35)) hw.cell.programming = {"gaussian", random.real(0.01, 0.6)};
  if (random.chance(0.25)) add_cell_effects(random, hw);
  MvmOptions& options = c.options;
  options.weight_bits = static_cast<int>(random.integer(1, 8));
  options.act_bits = static_cast<int>(random.integer(1, 8));
  options.act_signed = random.chance(0.5);
  options.seed = static_cast<std::uint64_t>(random.integer(0, 1 << 30)) << 20;
  options.chip = static_cast<std::uint32_t>(random.integer(0, 3));
  options.layer = static_cast<std::uint32_t>(random.integer(0, 3));
  options.allow_collapse = random.chance(0.5);
  if (hw.adc.bits && (hw.adc.range == AdcRange::kCalibrated || hw.adc.range == AdcRange::kLearned)) {
    const bool unipolar = unipolar_codes(hw);
    hw.adc.granularity = random.chance(0.6) ? AdcGranularity::kColumn : AdcGranularity::kSlice;
    const int slices = hw.sign_magnitude ? std::max(1, (options.weight_bits - 1 + hw.cell_bits - 1) / hw.cell_bits)
                                         : (options.weight_bits + hw.cell_bits - 1) / hw.cell_bits;
    for (int s = 0; s < slices; ++s) {
      options.adc_lo.push_back(unipolar && random.chance(0.6) ? static_cast<std::int32_t>(random.integer(-20, 40)) : 0);
      options.adc_lsb.push_back(random.chance(0.3) ? 1.0 : random.real(0.05, 9.0));
    }
  }
  return c;
}

/// Mostly, where the hardware has it: a range for every one of the layer's outputs in place of one per slice.
template <typename Source>
void add_column_ranges(Source& random, Case& c, std::int64_t outputs) {
  MvmOptions& options = c.options;
  if (options.adc_lsb.empty() || c.hardware.adc.granularity != AdcGranularity::kColumn || random.chance(0.1)) return;
  const std::size_t count = options.adc_lsb.size() * static_cast<std::size_t>(outputs);
  // Exact outputs, whose every step is one level: all, the first half, or none.
  const std::int64_t exact = random.chance(0.1) ? outputs : (random.chance(0.2) ? (outputs + 1) / 2 : 0);
  options.adc_columns = outputs;
  options.adc_lo.assign(count, 0);
  options.adc_lsb.assign(count, 1.0);
  for (std::size_t j = 0; j < count; ++j) {
    if (static_cast<std::int64_t>(j) % outputs < exact) continue;
    if (unipolar_codes(c.hardware)) options.adc_lo[j] = static_cast<std::int32_t>(random.integer(-5, 40));
    options.adc_lsb[j] = random.real(0.05, 9.0);
  }
}

/// For tests of the cells alone.
inline void leave_out_converters(Case& c) {
  c.hardware.adc = {};
  c.options.adc_lo.clear();
  c.options.adc_lsb.clear();
  c.options.adc_columns = 0;
}

template <typename Source>
Case random_case(Source& random) {
  Case c = random_configuration(random);
  c.outputs = random.chance(0.2) ? 1 : random.integer(1, random.chance(0.1) ? 150 : 20);
  c.inputs = random.chance(0.1) ? 1 : random.integer(1, 90);
  c.batch = random.chance(0.3) ? 1 : random.integer(1, 9);
  add_column_ranges(random, c, c.outputs);
  c.first_access = random.chance(0.5) ? 0 : static_cast<std::uint64_t>(random.integer(0, std::int64_t{1} << 47));
  return c;
}

}  // namespace cimq::kernels::testing
