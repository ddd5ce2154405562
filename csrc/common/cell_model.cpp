#include "common/cell_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "common/error.h"
#include "common/mapping.h"

namespace cimq {
namespace {

constexpr int kMaxFractionalCellBits = 6;

using Numbers = std::optional<std::vector<double>>;

int top_level(const Hardware& hardware) { return (1 << hardware.cell_bits) - 1; }

/// sum of c[i] * x^i, not below zero.
double polynomial(const std::vector<double>& coefficients, double x) {
  double value = 0.0;
  for (auto c = coefficients.rbegin(); c != coefficients.rend(); ++c) value = value * x + *c;
  return std::max(0.0, value);
}

void check_window(const Cell& cell) {
  const bool conductances = cell.g_min_microsiemens || cell.g_max_microsiemens;
  const bool resistances = cell.hrs_ohm || cell.lrs_ohm;
  check(!(conductances && resistances),
        "hardware: cell takes g_min_microsiemens and g_max_microsiemens, or hrs_ohm and lrs_ohm, not both");
  if (conductances) {
    check(
        cell.g_min_microsiemens && cell.g_max_microsiemens && *cell.g_min_microsiemens < *cell.g_max_microsiemens,
        "hardware: cell.g_min_microsiemens and cell.g_max_microsiemens must both be given, the first below the second");
  }
  if (resistances) {
    check(cell.hrs_ohm && cell.lrs_ohm && *cell.lrs_ohm > 0.0 && *cell.lrs_ohm < *cell.hrs_ohm,
          "hardware: cell.hrs_ohm and cell.lrs_ohm must both be given and positive, the first above the second");
  }
}

/// One field of a group with models: which model it belongs to, whether it is given, whether it is in microsiemens.
struct ModelField {
  std::string_view key;
  std::string_view model;
  bool given;
  bool absolute;
};

/// Refuses fields of other models and absolute units without a window. `group`: "cell.programming".
template <std::size_t N>
void check_fields(const Hardware& hardware, std::string_view group, std::string_view model,
                  const std::array<ModelField, N>& fields) {
  for (const ModelField& field : fields) {
    if (!field.given) continue;
    check(field.model == model, "hardware: ", group, ".", field.key, " must be ",
          field.key == "sigma_levels" ? "0" : "null", " with model ", model, ": it belongs to model ", field.model);
    check(!field.absolute || conductance_window(hardware.cell).given(), "hardware: ", group, ".", field.key,
          " needs a conductance window: give cell.g_min_microsiemens and cell.g_max_microsiemens (or hrs_ohm and "
          "lrs_ohm)");
  }
}

void check_level_count(const Hardware& hardware, std::string_view key, const Numbers& values) {
  const auto levels = std::size_t{1} << hardware.cell_bits;
  check(!values || values->size() == levels, "hardware: cell.programming.", key, " must have one value per level (",
        levels, " with cell_bits ", hardware.cell_bits, "), got ", values ? values->size() : 0);
}

void check_programming(const Hardware& hardware) {
  const Programming& p = hardware.cell.programming;
  const std::array models = {"none", "gaussian", "proportional", "polynomial", "lognormal", "table"};
  check(std::find(models.begin(), models.end(), p.model) != models.end(),
        "hardware: cell.programming.model must be one of none, gaussian, proportional, polynomial, lognormal, table, "
        "got ",
        p.model);
  check(std::isfinite(p.sigma_levels) && p.sigma_levels >= 0.0,
        "hardware: cell.programming.sigma_levels must be finite and at least 0, got ", p.sigma_levels);
  check(p.model != "none" || p.sigma_levels == 0.0,
        "hardware: cell.programming.sigma_levels must be 0 with model none, got ", p.sigma_levels,
        "; set cell.programming.model to gaussian");
  const std::array<ModelField, 11> fields = {{
      {"sigma_levels", "gaussian", p.sigma_levels != 0.0, false},
      {"sigma_microsiemens", "gaussian", p.sigma_microsiemens.has_value(), true},
      {"sigma_ratio", "proportional", p.sigma_ratio.has_value(), false},
      {"sigma_ln", "lognormal", p.sigma_ln.has_value(), false},
      {"coefficients_microsiemens", "polynomial", p.coefficients_microsiemens.has_value(), true},
      {"reference_microsiemens", "polynomial", p.reference_microsiemens.has_value(), true},
      {"coefficients_levels", "polynomial", p.coefficients_levels.has_value(), false},
      {"means_levels", "table", p.means_levels.has_value(), false},
      {"sigmas_levels", "table", p.sigmas_levels.has_value(), false},
      {"means_microsiemens", "table", p.means_microsiemens.has_value(), true},
      {"sigmas_microsiemens", "table", p.sigmas_microsiemens.has_value(), true},
  }};
  check_fields(hardware, "cell.programming", p.model, fields);
  check(!(p.sigma_levels != 0.0 && p.sigma_microsiemens),
        "hardware: cell.programming takes sigma_levels or sigma_microsiemens, not both");
  check(p.model != "proportional" || p.sigma_ratio, "hardware: cell.programming.model proportional needs sigma_ratio");
  check(p.model != "lognormal" || p.sigma_ln, "hardware: cell.programming.model lognormal needs sigma_ln");
  if (p.model == "polynomial") {
    check(p.coefficients_microsiemens.has_value() != p.coefficients_levels.has_value(),
          "hardware: cell.programming.model polynomial needs coefficients_microsiemens or coefficients_levels, and not "
          "both");
    check(!p.reference_microsiemens || (p.coefficients_microsiemens && *p.reference_microsiemens > 0.0),
          "hardware: cell.programming.reference_microsiemens must be positive and go with coefficients_microsiemens");
  }
  if (p.model == "table") {
    check(p.sigmas_levels.has_value() != p.sigmas_microsiemens.has_value(),
          "hardware: cell.programming.model table needs sigmas_levels or sigmas_microsiemens, and not both");
    check(!(p.means_levels && p.means_microsiemens),
          "hardware: cell.programming takes means_levels or means_microsiemens, not both");
    check_level_count(hardware, "means_levels", p.means_levels);
    check_level_count(hardware, "sigmas_levels", p.sigmas_levels);
    check_level_count(hardware, "means_microsiemens", p.means_microsiemens);
    check_level_count(hardware, "sigmas_microsiemens", p.sigmas_microsiemens);
  }
}

void check_read(const Hardware& hardware) {
  const ReadNoise& read = hardware.cell.read;
  check(read.model == "none" || read.model == "constant" || read.model == "proportional",
        "hardware: cell.read.model must be one of none, constant, proportional, got ", read.model);
  check(std::isfinite(read.sigma_levels) && read.sigma_levels >= 0.0,
        "hardware: cell.read.sigma_levels must be finite and at least 0, got ", read.sigma_levels);
  const std::array<ModelField, 3> fields = {{
      {"sigma_levels", "constant", read.sigma_levels != 0.0, false},
      {"sigma_microsiemens", "constant", read.sigma_microsiemens.has_value(), true},
      {"sigma_ratio", "proportional", read.sigma_ratio.has_value(), false},
  }};
  check_fields(hardware, "cell.read", read.model, fields);
  check(!(read.sigma_levels != 0.0 && read.sigma_microsiemens),
        "hardware: cell.read takes sigma_levels or sigma_microsiemens, not both");
  check(read.model != "proportional" || read.sigma_ratio, "hardware: cell.read.model proportional needs sigma_ratio");
}

/// Sizes that 16 bits in 1/256 level must hold.
void check_fractional(const Hardware& hardware) {
  if (!hardware.fractional()) return;
  check(hardware.cell_bits <= kMaxFractionalCellBits, "hardware: cell_bits must be at most ", kMaxFractionalCellBits,
        " where currents are no whole number of levels, as with programming noise (conductances are held in 1/256 "
        "level, 16 bits), got ",
        hardware.cell_bits);
  const double largest = base_levels(hardware) + top_level(hardware);
  check(largest <= kMaxConductanceLevels, "hardware: the top level must conduct at most ", kMaxConductanceLevels,
        " level steps (16 bits in 1/256 level), but with cell_bits ", hardware.cell_bits,
        " and this conductance window it conducts ", largest, "; use fewer cell_bits or a larger on/off ratio");
}

}  // namespace

Window conductance_window(const Cell& cell) {
  constexpr double kMicro = 1e6;
  if (cell.g_min_microsiemens && cell.g_max_microsiemens) return {*cell.g_min_microsiemens, *cell.g_max_microsiemens};
  if (cell.hrs_ohm && cell.lrs_ohm) return {kMicro / *cell.hrs_ohm, kMicro / *cell.lrs_ohm};
  return {};
}

double level_step_microsiemens(const Hardware& hardware) {
  const Window window = conductance_window(hardware.cell);
  return (window.g_max - window.g_min) / top_level(hardware);
}

double base_levels(const Hardware& hardware) {
  const Window window = conductance_window(hardware.cell);
  return window.given() ? window.g_min / level_step_microsiemens(hardware) : 0.0;
}

LevelDistribution programmed_level(const Hardware& hardware, int level) {
  const Programming& p = hardware.cell.programming;
  const double step = level_step_microsiemens(hardware);
  const auto index = static_cast<std::size_t>(level);
  LevelDistribution result;
  result.mean = base_levels(hardware) + level;
  if (p.model == "gaussian") {
    result.sigma = p.sigma_microsiemens ? *p.sigma_microsiemens / step : p.sigma_levels;
  } else if (p.model == "proportional") {
    result.sigma = p.sigma_ratio.value_or(0.0) * result.mean;
  } else if (p.model == "lognormal") {
    result.lognormal = result.mean > 0.0;
    result.sigma = result.lognormal ? p.sigma_ln.value_or(0.0) : 0.0;
  } else if (p.model == "polynomial" && p.coefficients_levels) {
    result.sigma = polynomial(*p.coefficients_levels, level);
  } else if (p.model == "polynomial" && p.coefficients_microsiemens) {
    const double x = result.mean * step / p.reference_microsiemens.value_or(1.0);
    result.sigma = polynomial(*p.coefficients_microsiemens, x) / step;
  } else if (p.model == "table") {
    const double nominal = result.mean;
    if (p.sigmas_levels) result.sigma = p.sigmas_levels->at(index);
    if (p.sigmas_microsiemens) result.sigma = p.sigmas_microsiemens->at(index) / step;
    if (p.means_levels) result.mean = base_levels(hardware) + p.means_levels->at(index);
    if (p.means_microsiemens) result.mean = p.means_microsiemens->at(index) / step;
    result.shift = result.mean - nominal;
  }
  return result;
}

double read_sigma(const Hardware& hardware) {
  const ReadNoise& read = hardware.cell.read;
  if (read.model == "proportional") return read.sigma_ratio.value_or(0.0);
  if (read.model != "constant") return 0.0;
  return read.sigma_microsiemens ? *read.sigma_microsiemens / level_step_microsiemens(hardware) : read.sigma_levels;
}

double drift_factor(const Drift& drift, double z) {
  return std::exp(-(drift.nu + z * drift.nu_sigma) * std::log(drift.time_s / drift.t0_s));
}

bool drift_varies(const Drift& drift) { return drift.nu_sigma > 0.0 && drift.time_s > drift.t0_s; }

void check_cells(const Hardware& hardware) {
  check_window(hardware.cell);
  check_programming(hardware);
  check_read(hardware);
  const StuckAt& stuck = hardware.cell.stuck_at;
  check(stuck.hrs_rate >= 0.0 && stuck.lrs_rate >= 0.0 && stuck.hrs_rate + stuck.lrs_rate <= 1.0,
        "hardware: cell.stuck_at.hrs_rate and lrs_rate must be at least 0 and at most 1 together, got ", stuck.hrs_rate,
        " and ", stuck.lrs_rate);
  const Drift& drift = hardware.cell.drift;
  check(drift.t0_s > 0.0 && drift.time_s >= drift.t0_s,
        "hardware: cell.drift.time_s must be at least t0_s, which must be positive, got ", drift.time_s, " and ",
        drift.t0_s);
  const Wires& wires = hardware.wires;
  check(wires.word_line_ohm >= 0.0 && wires.bit_line_ohm >= 0.0,
        "hardware: wires.word_line_ohm and bit_line_ohm must be at least 0, got ", wires.word_line_ohm, " and ",
        wires.bit_line_ohm);
  check((wires.word_line_ohm == 0.0 && wires.bit_line_ohm == 0.0) || conductance_window(hardware.cell).given(),
        "hardware: wires need a conductance window: give cell.g_min_microsiemens and cell.g_max_microsiemens (or "
        "hrs_ohm and lrs_ohm)");
  check_fractional(hardware);
}

bool Hardware::varies() const {
  const StuckAt& stuck = cell.stuck_at;
  if (stuck.hrs_rate > 0.0 || stuck.lrs_rate > 0.0 || drift_varies(cell.drift) || read_sigma(*this) > 0.0) return true;
  if (cell.programming.model == "none") return false;
  for (int level = 0; level <= top_level(*this); ++level) {
    if (programmed_level(*this, level).sigma > 0.0) return true;
  }
  return false;
}

bool Hardware::fractional() const {
  const Programming& p = cell.programming;
  return varies() || p.means_levels || p.means_microsiemens || drift_factor(cell.drift, 0.0) != 1.0 ||
         wires.word_line_ohm > 0.0 || wires.bit_line_ohm > 0.0 ||
         (converts_columns_apart(*this) && base_levels(*this) > 0.0);
}

}  // namespace cimq
