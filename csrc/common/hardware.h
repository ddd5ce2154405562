// Description of a crossbar machine: the C++ side of cimq.Hardware. Units are in the field names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cimq {

enum class Mapping { kDifferentialColumn, kDifferentialRow, kOffset };
enum class AdcRange { kFullScale, kGranular, kCalibrated, kLearned };
enum class AdcPlacement { kPerColumn, kDifferential };

struct Adc {
  std::optional<int> bits;  ///< 1..16; nullopt is an ideal converter
  AdcRange range = AdcRange::kFullScale;
  AdcPlacement placement = AdcPlacement::kDifferential;  ///< looked at by differential_column only
};

/// Variation that programming a cell leaves, in level steps. `model`: "none", "gaussian".
struct Programming {
  std::string model = "none";
  double sigma_levels = 0.0;  ///< standard deviation in level steps ("gaussian")
};

struct Cell {
  double g_min_microsiemens = 5.0;   ///< conductance of level 0
  double g_max_microsiemens = 100.0;  ///< conductance of the top level
  Programming programming;
};

struct Timing {
  double write_time_us = 56.0;  ///< programming one crossbar
  double mvm_time_us = 1.4;     ///< one activation of one crossbar (one input digit)
};

struct Resources {
  std::optional<int> crossbars = 1;  ///< nullopt: as many as the network needs
};

struct Hardware {
  std::string name = "paper";
  int rows = 256;
  int cols = 256;
  int cell_bits = 4;
  int dac_bits = 1;
  Mapping mapping = Mapping::kDifferentialColumn;
  bool sign_magnitude = false;
  Adc adc;
  Cell cell;
  Timing timing;
  Resources resources;

  /// True if two chips of this hardware can differ.
  bool varies() const { return cell.programming.model != "none" && cell.programming.sigma_levels > 0.0; }

  /// Parses the canonical JSON of cimq.Hardware.to_json(): every key known, every value in range.
  /// Throws cimq::Error naming key, value and what is allowed.
  static Hardware from_json(std::string_view text);
  std::string to_json() const;
  /// Throws cimq::Error for impossible values.
  void validate() const;
};

std::string_view name_of(Mapping mapping);
std::string_view name_of(AdcRange range);
std::string_view name_of(AdcPlacement placement);

}  // namespace cimq
