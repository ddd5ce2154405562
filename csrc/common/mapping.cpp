#include "common/mapping.h"

#include "common/error.h"
#include "common/rounding.h"

namespace cimq {
namespace {

constexpr int kMaxNetworkBits = 8;

void check_bits(const char* name, int bits) {
  check(bits >= 1 && bits <= kMaxNetworkBits, name, " must be an integer from 1 to ", kMaxNetworkBits, ", got ", bits);
}

}  // namespace

std::int64_t inputs_per_tile(const Hardware& hardware) { return hardware.rows / row_polarities(hardware.mapping); }

std::int64_t used_rows(const Hardware& hardware) {
  return inputs_per_tile(hardware) * row_polarities(hardware.mapping);
}

std::int64_t physical_rows(Mapping mapping, std::int64_t inputs) { return inputs * row_polarities(mapping); }

std::int64_t physical_columns(Mapping mapping, std::int64_t outputs, int slices) {
  return outputs * slices * column_polarities(mapping) + reference_columns(mapping);
}

int weight_slices(const Hardware& hardware, int weight_bits) {
  check_bits("weight_bits", weight_bits);
  const int magnitude_bits = hardware.sign_magnitude && weight_bits > 1 ? weight_bits - 1 : weight_bits;
  return ceil_div(magnitude_bits, hardware.cell_bits);
}

int input_digits(const Hardware& hardware, int act_bits) {
  check_bits("act_bits", act_bits);
  return ceil_div(act_bits, hardware.dac_bits);
}

AppliedInput applied_input(const Hardware& hardware, int act_bits, bool is_signed) {
  AppliedInput input;
  const int digits = input_digits(hardware, act_bits);
  for (int i = 0; i < digits; ++i) input.digit_weights.push_back(std::int32_t{1} << (hardware.dac_bits * i));
  if (!is_signed) return input;
  if (hardware.dac_bits == 1) {
    input.digit_weights.back() = -input.digit_weights.back();
  } else {
    input.shift = half_range(act_bits);
  }
  return input;
}

StoredWeight stored_weight(const Hardware& hardware, int weight_bits) {
  const int c = hardware.cell_bits;
  StoredWeight stored;
  std::int32_t largest = largest_weight(weight_bits);  // of the stored magnitude
  if (hardware.mapping == Mapping::kOffset) {
    stored.shift = half_range(weight_bits);
    largest += stored.shift;
  }
  const int slices = weight_slices(hardware, weight_bits);
  for (int s = 0; s < slices; ++s) stored.slice_weights.push_back(std::int64_t{1} << (c * s));
  if (halves_weights(hardware.mapping, c, weight_bits)) {
    stored.slice_weights[0] = 2;
    largest = 1;
  }
  stored.max_level = std::min(largest, static_cast<std::int32_t>(low_mask(c)));
  return stored;
}

bool converts_columns_apart(const Hardware& hardware) {
  return hardware.mapping == Mapping::kDifferentialColumn && hardware.adc.bits.has_value() &&
         hardware.adc.placement == AdcPlacement::kPerColumn;
}

bool converts_signed(const Hardware& hardware) {
  if (hardware.mapping == Mapping::kDifferentialColumn) return hardware.adc.placement == AdcPlacement::kDifferential;
  return hardware.mapping == Mapping::kDifferentialRow;
}

CodeRange code_range(int bits, bool is_signed) {
  CodeRange codes;
  codes.levels = (std::int32_t{1} << bits) - (is_signed ? 1 : 0);
  codes.max = is_signed ? (codes.levels - 1) / 2 : codes.levels - 1;
  codes.min = is_signed ? -codes.max : 0;
  return codes;
}

}  // namespace cimq
