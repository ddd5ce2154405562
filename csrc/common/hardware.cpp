#include "common/hardware.h"

namespace cimq {

std::string_view name_of(Mapping mapping) {
  switch (mapping) {
    case Mapping::kDifferentialColumn: return "differential_column";
    case Mapping::kDifferentialRow: return "differential_row";
    case Mapping::kOffset: return "offset";
  }
  return "";
}

std::string_view name_of(AdcRange range) {
  switch (range) {
    case AdcRange::kFullScale: return "full_scale";
    case AdcRange::kGranular: return "granular";
    case AdcRange::kCalibrated: return "calibrated";
    case AdcRange::kLearned: return "learned";
  }
  return "";
}

std::string_view name_of(AdcPlacement placement) {
  return placement == AdcPlacement::kPerColumn ? "per_column" : "differential";
}

}  // namespace cimq
