// Description of a crossbar machine: the C++ side of cimq.Hardware. Units are in the field names.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/cell.h"

namespace cimq {

enum class Mapping { kDifferentialColumn, kDifferentialRow, kOffset };
enum class AdcRange { kFullScale, kGranular, kCalibrated, kLearned };
enum class AdcPlacement { kPerColumn, kDifferential };
enum class AdcGranularity { kSlice, kColumn };

struct Adc {
  std::optional<int> bits;  ///< 1..16; nullopt is an ideal converter
  AdcRange range = AdcRange::kFullScale;
  AdcPlacement placement = AdcPlacement::kDifferential;  ///< looked at by differential_column only
  /// What has a range of its own where ranges come from data: a weight slice, or every column (pair) of it.
  AdcGranularity granularity = AdcGranularity::kSlice;
};

struct Timing {
  double write_time_us = 56.0;  ///< programming one crossbar
  double mvm_time_us = 1.4;     ///< one activation of one crossbar (one input digit)
  // nullopt: not described, takes no time.
  std::optional<double> adc_time_us;     ///< one conversion
  std::optional<double> vector_time_us;  ///< one digital operation of a vector lane
};

/// nullopt: without limit. What each limits is in docs/machines.md.
struct Resources {
  std::optional<std::int64_t> crossbars = 1;
  std::optional<std::int64_t> adcs_per_crossbar;  ///< nullopt: one for every line that is converted
  std::optional<std::int64_t> parallel_writes;
  std::optional<std::int64_t> buffer_bytes;  ///< for input vectors and sums
  std::optional<double> bus_bytes_per_us;    ///< in each direction
  std::optional<std::int64_t> vector_lanes;
};

/// Energy per event (compiler/cost/energy.h); nullopt: not described, counts as 0.
struct Energy {
  std::optional<double> write_energy_pj;            ///< programming one crossbar
  std::optional<double> mvm_energy_pj;              ///< one activation of one crossbar, without converters
  std::optional<double> adc_energy_pj;              ///< one conversion
  std::optional<double> dac_energy_pj;              ///< one driven word line
  std::optional<double> digital_energy_pj;          ///< one shift-and-add
  std::optional<double> buffer_energy_pj_per_byte;  ///< one byte read or written
  std::optional<double> bus_energy_pj_per_byte;     ///< one byte moved
};

/// Area of what a machine has (compiler/cost/area.h); nullopt: not described, counts as 0.
struct Area {
  std::optional<double> crossbar_area_um2;         ///< the cells of one crossbar
  std::optional<double> adc_area_um2;              ///< one converter
  std::optional<double> dac_area_um2;              ///< the driver of one word line
  std::optional<double> sample_hold_area_um2;      ///< one line that is converted
  std::optional<double> digital_area_um2;          ///< shift-and-add of one crossbar
  std::optional<double> buffer_area_um2_per_byte;  ///< one byte of the buffer
  std::optional<double> bus_area_um2;              ///< a crossbar's share of bus and routers
  std::optional<double> vector_area_um2;           ///< one vector lane
};

struct Hardware {
  std::string name = "custom";
  int rows = 256;
  int cols = 256;
  int cell_bits = 4;
  int dac_bits = 1;
  Mapping mapping = Mapping::kDifferentialColumn;
  bool sign_magnitude = false;
  Adc adc;
  Cell cell;
  Wires wires;
  Timing timing;
  Resources resources;
  Energy energy;
  Area area;
  std::map<std::string, std::string> sources;  ///< field (dotted) -> where its value comes from

  /// True if two chips of this hardware, or two accesses of one chip, can differ.
  bool varies() const;
  /// True if a current need not be a whole number of level steps: conductances are then held in 1/256 level.
  bool fractional() const;
  /// Parses JSON of the schema of cimq.Hardware: missing keys take the defaults above, every key must be known (once),
  /// every value of its type and in range. Throws cimq::Error naming key, value and what is allowed.
  static Hardware from_json(std::string_view text);
  /// Canonical JSON: every key, in the order of this file; those that came later only where they are given.
  std::string to_json() const;
  /// Throws cimq::Error for impossible values.
  void validate() const;
};

std::string_view name_of(Mapping mapping);
std::string_view name_of(AdcRange range);
std::string_view name_of(AdcPlacement placement);
std::string_view name_of(AdcGranularity granularity);

}  // namespace cimq
