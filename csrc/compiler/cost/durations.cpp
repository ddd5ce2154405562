#include "compiler/cost/durations.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "compiler/cost/tier1.h"

namespace cimq::compiler {
namespace {

constexpr std::int64_t kLongest = std::int64_t{1} << 58;  // 8 digits of it still fit 62 bits
constexpr double kPicosecondsPerMicrosecond = 1e6;

std::int64_t rounds_time(std::int64_t rounds, std::int64_t time_ps, const char* what) {
  std::int64_t all = 0;
  check(!__builtin_mul_overflow(rounds, time_ps, &all) && all <= kLongest, what, " take more than 2^58 ps: ", rounds,
        " times ", time_ps, " ps");
  return all;
}

}  // namespace

std::int64_t converted_lines(const Hardware& hw, std::int64_t column_begin, std::int64_t column_end) {
  // What the description says, also where the converter is ideal and the order of subtraction makes no difference.
  const bool pairs = hw.mapping == Mapping::kDifferentialColumn && hw.adc.placement == AdcPlacement::kDifferential;
  return pairs ? column_end / 2 - column_begin / 2 : column_end - column_begin;
}

DigitTime digit_time(const Hardware& hw, std::int64_t lines) {
  DigitTime time;
  time.read_ps = picoseconds(hw.timing.mvm_time_us);
  if (!hw.timing.adc_time_us || lines == 0) return time;
  const std::int64_t rounds = arrays_for(lines, hw.resources.adcs_per_crossbar.value_or(lines));
  const std::int64_t convert = rounds_time(rounds, picoseconds(*hw.timing.adc_time_us), "conversions of one digit");
  time.wait_ps = std::max<std::int64_t>(0, convert - time.read_ps);
  time.drain_ps = std::min(time.read_ps, convert);
  return time;
}

std::int64_t bus_time_ps(const Hardware& hw, std::int64_t bytes) {
  if (!hw.resources.bus_bytes_per_us) return 0;
  const double time =
      std::ceil(static_cast<double>(bytes) * kPicosecondsPerMicrosecond / *hw.resources.bus_bytes_per_us);
  check(time <= static_cast<double>(kLongest), "a move of ", bytes,
        " bytes takes more than 2^58 ps: resources.bus_bytes_per_us is ", *hw.resources.bus_bytes_per_us);
  return static_cast<std::int64_t>(time);
}

std::int64_t vector_time_ps(const Hardware& hw, std::int64_t operations) {
  if (!hw.timing.vector_time_us || operations == 0) return 0;
  const std::int64_t rounds = arrays_for(operations, hw.resources.vector_lanes.value_or(operations));
  return rounds_time(rounds, picoseconds(*hw.timing.vector_time_us), "digital operations");
}

}  // namespace cimq::compiler
