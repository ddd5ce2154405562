#include "common/hardware.h"

#include <array>
#include <cmath>
#include <utility>

#include "common/cell_model.h"
#include "common/json_fields.h"
#include "common/mapping.h"

namespace cimq {
namespace {

constexpr int kMaxArraySide = 65536;
constexpr int kMaxSliceBits = 8;
constexpr int kMaxAdcBits = 16;
constexpr std::int64_t kMaxCount = 1'000'000'000'000;
constexpr double kMaxQuantity = 1e15;
constexpr double kMaxTimeUs = 1e9;
constexpr double kHalfPicosecondUs = 0.5e-6;
constexpr double kMaxSigmaLevels = 16.0;
constexpr double kMaxSigmaRatio = 4.0;
constexpr double kMaxNu = 4.0;
constexpr double kMaxSeconds = 1e12;
constexpr double kMaxOhm = 1e6;
constexpr std::size_t kMaxCoefficients = 16;
constexpr std::size_t kMaxLevels = std::size_t{1} << kMaxSliceBits;

constexpr std::array kMappings = {std::pair{Mapping::kDifferentialColumn, "differential_column"},
                                  std::pair{Mapping::kDifferentialRow, "differential_row"},
                                  std::pair{Mapping::kOffset, "offset"}};
constexpr std::array kRanges = {
    std::pair{AdcRange::kFullScale, "full_scale"}, std::pair{AdcRange::kGranular, "granular"},
    std::pair{AdcRange::kCalibrated, "calibrated"}, std::pair{AdcRange::kLearned, "learned"}};
constexpr std::array kPlacements = {std::pair{AdcPlacement::kPerColumn, "per_column"},
                                    std::pair{AdcPlacement::kDifferential, "differential"}};
constexpr std::array kGranularities = {std::pair{AdcGranularity::kSlice, "slice"},
                                       std::pair{AdcGranularity::kColumn, "column"}};
constexpr std::array kProgrammingModels = {std::pair{"none", "none"},
                                           std::pair{"gaussian", "gaussian"},
                                           std::pair{"proportional", "proportional"},
                                           std::pair{"polynomial", "polynomial"},
                                           std::pair{"lognormal", "lognormal"},
                                           std::pair{"table", "table"}};
constexpr std::array kReadModels = {std::pair{"none", "none"}, std::pair{"constant", "constant"},
                                    std::pair{"proportional", "proportional"}};

template <typename Names, typename Value>
std::string_view name_in(const Names& names, Value value) {
  for (const auto& [candidate, name] : names) {
    if (candidate == value) return name;
  }
  return "";
}

template <typename Visitor, typename C>
void describe_cell(Visitor& g, C& cell) {
  g.number("g_min_microsiemens", cell.g_min_microsiemens, 0.0, kMaxQuantity);
  g.number("g_max_microsiemens", cell.g_max_microsiemens, 0.0, kMaxQuantity);
  g.number("hrs_ohm", cell.hrs_ohm, 0.0, kMaxQuantity);
  g.number("lrs_ohm", cell.lrs_ohm, 0.0, kMaxQuantity);
  g.group("programming", true, [&](auto& p) {
    auto& programming = cell.programming;
    p.choice("model", programming.model, kProgrammingModels);
    p.number("sigma_levels", programming.sigma_levels, 0.0, kMaxSigmaLevels);
    p.number("sigma_microsiemens", programming.sigma_microsiemens, 0.0, kMaxQuantity);
    p.number("sigma_ratio", programming.sigma_ratio, 0.0, kMaxSigmaRatio);
    p.number("sigma_ln", programming.sigma_ln, 0.0, kMaxSigmaRatio);
    p.numbers("coefficients_microsiemens", programming.coefficients_microsiemens, -kMaxQuantity, kMaxQuantity,
              kMaxCoefficients);
    p.number("reference_microsiemens", programming.reference_microsiemens, 0.0, kMaxQuantity);
    p.numbers("coefficients_levels", programming.coefficients_levels, -kMaxQuantity, kMaxQuantity, kMaxCoefficients);
    p.numbers("means_levels", programming.means_levels, 0.0, kMaxQuantity, kMaxLevels);
    p.numbers("sigmas_levels", programming.sigmas_levels, 0.0, kMaxSigmaLevels, kMaxLevels);
    p.numbers("means_microsiemens", programming.means_microsiemens, 0.0, kMaxQuantity, kMaxLevels);
    p.numbers("sigmas_microsiemens", programming.sigmas_microsiemens, 0.0, kMaxQuantity, kMaxLevels);
  });
  g.group("read", true, [&](auto& r) {
    r.choice("model", cell.read.model, kReadModels);
    r.number("sigma_levels", cell.read.sigma_levels, 0.0, kMaxSigmaLevels);
    r.number("sigma_microsiemens", cell.read.sigma_microsiemens, 0.0, kMaxQuantity);
    r.number("sigma_ratio", cell.read.sigma_ratio, 0.0, kMaxSigmaRatio);
  });
  g.group("stuck_at", true, [&](auto& s) {
    s.number("hrs_rate", cell.stuck_at.hrs_rate, 0.0, 1.0);
    s.number("lrs_rate", cell.stuck_at.lrs_rate, 0.0, 1.0);
  });
  g.group("drift", true, [&](auto& d) {
    d.number("nu", cell.drift.nu, -kMaxNu, kMaxNu);
    d.number("nu_sigma", cell.drift.nu_sigma, 0.0, kMaxNu);
    d.number("t0_s", cell.drift.t0_s, 1.0 / kMaxSeconds, kMaxSeconds);
    d.number("time_s", cell.drift.time_s, 1.0 / kMaxSeconds, kMaxSeconds);
  });
}

/// The schema: the one list of keys, types and ranges. `H` is Hardware (reading) or const Hardware (writing).
template <typename Visitor, typename H>
void describe(Visitor& v, H& hw) {
  v.text("name", hw.name, 200);
  v.integer("rows", hw.rows, 1, kMaxArraySide);
  v.integer("cols", hw.cols, 1, kMaxArraySide);
  v.integer("cell_bits", hw.cell_bits, 1, kMaxSliceBits);
  v.integer("dac_bits", hw.dac_bits, 1, kMaxSliceBits);
  v.choice("mapping", hw.mapping, kMappings);
  v.boolean("sign_magnitude", hw.sign_magnitude);
  v.group("adc", true, [&](auto& g) {
    g.integer("bits", hw.adc.bits, 1, kMaxAdcBits);
    g.choice("range", hw.adc.range, kRanges);
    g.choice("placement", hw.adc.placement, kPlacements);
    g.choice("granularity", hw.adc.granularity, kGranularities);
  });
  v.group("cell", true, [&](auto& g) { describe_cell(g, hw.cell); });
  v.group("wires", true, [&](auto& g) {
    g.number("word_line_ohm", hw.wires.word_line_ohm, 0.0, kMaxOhm);
    g.number("bit_line_ohm", hw.wires.bit_line_ohm, 0.0, kMaxOhm);
    g.number("mean_activity", hw.wires.mean_activity, 0.0, 1.0);
  });
  v.group("timing", false, [&](auto& g) {
    g.number("write_time_us", hw.timing.write_time_us, 0.0, kMaxTimeUs);
    g.number("mvm_time_us", hw.timing.mvm_time_us, 0.0, kMaxTimeUs);
    g.number_if_given("adc_time_us", hw.timing.adc_time_us, 0.0, kMaxTimeUs);
    g.number_if_given("vector_time_us", hw.timing.vector_time_us, 0.0, kMaxTimeUs);
  });
  v.group("resources", false, [&](auto& g) {
    g.integer("crossbars", hw.resources.crossbars, 1, kMaxCount);
    g.integer("adcs_per_crossbar", hw.resources.adcs_per_crossbar, 1, kMaxCount);
    g.integer("parallel_writes", hw.resources.parallel_writes, 1, kMaxCount);
    g.integer("buffer_bytes", hw.resources.buffer_bytes, 1, kMaxCount);
    g.number("bus_bytes_per_us", hw.resources.bus_bytes_per_us, 0.0, kMaxQuantity);
    g.integer("vector_lanes", hw.resources.vector_lanes, 1, kMaxCount);
  });
  v.group("energy", true, [&](auto& g) {
    g.number("write_energy_pj", hw.energy.write_energy_pj, 0.0, kMaxQuantity);
    g.number("mvm_energy_pj", hw.energy.mvm_energy_pj, 0.0, kMaxQuantity);
    g.number("adc_energy_pj", hw.energy.adc_energy_pj, 0.0, kMaxQuantity);
    g.number("dac_energy_pj", hw.energy.dac_energy_pj, 0.0, kMaxQuantity);
    g.number("digital_energy_pj", hw.energy.digital_energy_pj, 0.0, kMaxQuantity);
    g.number("buffer_energy_pj_per_byte", hw.energy.buffer_energy_pj_per_byte, 0.0, kMaxQuantity);
    g.number("bus_energy_pj_per_byte", hw.energy.bus_energy_pj_per_byte, 0.0, kMaxQuantity);
  });
  v.group("area", true, [&](auto& g) {
    g.number("crossbar_area_um2", hw.area.crossbar_area_um2, 0.0, kMaxQuantity);
    g.number("adc_area_um2", hw.area.adc_area_um2, 0.0, kMaxQuantity);
    g.number("dac_area_um2", hw.area.dac_area_um2, 0.0, kMaxQuantity);
    g.number_if_given("sample_hold_area_um2", hw.area.sample_hold_area_um2, 0.0, kMaxQuantity);
    g.number_if_given("digital_area_um2", hw.area.digital_area_um2, 0.0, kMaxQuantity);
    g.number("buffer_area_um2_per_byte", hw.area.buffer_area_um2_per_byte, 0.0, kMaxQuantity);
    g.number_if_given("bus_area_um2", hw.area.bus_area_um2, 0.0, kMaxQuantity);
    g.number_if_given("vector_area_um2", hw.area.vector_area_um2, 0.0, kMaxQuantity);
  });
  v.texts_by_path("sources", hw.sources);
}

/// What single ranges cannot express: rules that tie fields to each other.
void check_together(const Hardware& hw) {
  const bool offset = hw.mapping == Mapping::kOffset;
  check(!(hw.sign_magnitude && offset),
        "hardware: sign_magnitude must be false with mapping offset: its cells hold no sign to save a bit of");
  check(inputs_per_tile(hw) >= 1,
        "hardware: rows must be at least 2 with mapping differential_row (two word lines per input), got ", hw.rows);
  check(!(converts_signed(hw) && hw.adc.bits && *hw.adc.bits < 2),
        "hardware: adc.bits must be at least 2 where the converter sees a signed quantity (mapping ",
        name_of(hw.mapping), ", adc.placement ", name_of(hw.adc.placement), "): 1 bit leaves only the code 0");
  check(hw.adc.granularity == AdcGranularity::kSlice || hw.adc.range == AdcRange::kCalibrated ||
            hw.adc.range == AdcRange::kLearned,
        "hardware: adc.granularity must be slice with adc.range ", name_of(hw.adc.range),
        " (one range for the whole array); column goes with calibrated or learned");
  check_cells(hw);
  check(hw.timing.write_time_us == 0.0 || hw.timing.write_time_us >= kHalfPicosecondUs,
        "hardware: timing.write_time_us must be 0 or at least one picosecond (1e-6), got ", hw.timing.write_time_us);
  check(hw.timing.mvm_time_us >= kHalfPicosecondUs,
        "hardware: timing.mvm_time_us must be at least one picosecond (1e-6), got ", hw.timing.mvm_time_us);
  const auto check_short_time = [](const char* key, const std::optional<double>& time_us) {
    check(!time_us || *time_us == 0.0 || *time_us >= kHalfPicosecondUs, "hardware: timing.", key,
          " must be null, 0 or at least one picosecond (1e-6), got ", time_us.value_or(0.0));
  };
  check_short_time("adc_time_us", hw.timing.adc_time_us);
  check_short_time("vector_time_us", hw.timing.vector_time_us);
  check(!hw.resources.bus_bytes_per_us || *hw.resources.bus_bytes_per_us > 0.0,
        "hardware: resources.bus_bytes_per_us must be positive or null, got 0");
}

}  // namespace

std::string_view name_of(Mapping mapping) { return name_in(kMappings, mapping); }
std::string_view name_of(AdcRange range) { return name_in(kRanges, range); }
std::string_view name_of(AdcPlacement placement) { return name_in(kPlacements, placement); }
std::string_view name_of(AdcGranularity granularity) { return name_in(kGranularities, granularity); }

Hardware Hardware::from_json(std::string_view text) {
  const nlohmann::json json = parse_json(text, "hardware");
  Hardware hw;
  FieldReader reader(json, "hardware");
  describe(reader, hw);
  reader.finish();
  check_together(hw);
  return hw;
}

std::string Hardware::to_json() const {
  FieldWriter writer;
  describe(writer, *this);
  return writer.json().dump();
}

void Hardware::validate() const { from_json(to_json()); }

}  // namespace cimq
