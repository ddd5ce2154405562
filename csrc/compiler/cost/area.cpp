#include "compiler/cost/area.h"

#include "common/mapping.h"
#include "compiler/cost/durations.h"

namespace cimq::compiler {
namespace {

constexpr int kBits = 8;  // of the weights and activations that buffer and bus carry
constexpr double kPicosecondsPerNanosecond = 1e3;

template <std::size_t Count>
double sum_of(const std::array<std::optional<double>, Count>& parts) {
  double sum = 0.0;
  for (const std::optional<double>& part : parts) sum += part.value_or(0.0);
  return sum;
}

std::optional<double> times(const std::optional<double>& each, double count) {
  return each ? std::optional(*each * count) : std::nullopt;
}

}  // namespace

double AreaCost::total_um2() const { return sum_of(part_um2); }
double PowerCost::total_mw() const { return sum_of(part_mw); }

AreaCost area(const Hardware& hw, std::int64_t crossbars) {
  const auto count = static_cast<double>(crossbars);
  const std::int64_t lines = converted_lines(hw, 0, hw.cols);
  const auto converters = static_cast<double>(hw.resources.adcs_per_crossbar.value_or(lines));
  const Area& a = hw.area;
  return {{times(a.crossbar_area_um2, count), times(a.adc_area_um2, count * converters),
           times(a.dac_area_um2, count * hw.rows), times(a.sample_hold_area_um2, count * static_cast<double>(lines)),
           times(a.digital_area_um2, count),
           times(a.buffer_area_um2_per_byte, static_cast<double>(hw.resources.buffer_bytes.value_or(0))),
           times(a.bus_area_um2, count),
           times(a.vector_area_um2, static_cast<double>(hw.resources.vector_lanes.value_or(0)))}};
}

PowerCost busy_power(const Hardware& hw, std::int64_t crossbars) {
  const std::int64_t lines = converted_lines(hw, 0, hw.cols);
  // Picojoules per nanosecond are milliwatts.
  const double steps =
      static_cast<double>(crossbars) * kPicosecondsPerNanosecond / static_cast<double>(digit_time(hw, lines).step_ps());
  const auto converted = static_cast<double>(lines);
  const std::int64_t results = hw.cols / (std::int64_t{column_polarities(hw.mapping)} * weight_slices(hw, kBits));
  const double bytes = static_cast<double>(inputs_per_tile(hw) + results) / input_digits(hw, kBits);
  const Energy& e = hw.energy;
  return {{times(e.mvm_energy_pj, steps), times(e.adc_energy_pj, steps * converted),
           times(e.dac_energy_pj, steps * static_cast<double>(used_rows(hw))),
           times(e.digital_energy_pj, steps * converted), times(e.buffer_energy_pj_per_byte, steps * bytes),
           times(e.bus_energy_pj_per_byte, steps * bytes)}};
}

}  // namespace cimq::compiler
