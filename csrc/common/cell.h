// The memory cell: the part of Hardware that says how conductances differ from what was programmed (docs/cells.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cimq {

/// Variation that programming leaves. Every model uses the fields behind it, and no other.
struct Programming {
  std::string model = "none";
  double sigma_levels = 0.0;                                ///< gaussian: standard deviation in level steps, or
  std::optional<double> sigma_microsiemens = std::nullopt;  ///< ... in microsiemens (needs the window)
  std::optional<double> sigma_ratio = std::nullopt;         ///< proportional: standard deviation / conductance
  std::optional<double> sigma_ln = std::nullopt;            ///< lognormal: standard deviation of ln(conductance)
  /// polynomial: sigma in microsiemens = sum of c[i] * x^i, not below 0; x the conductance in microsiemens, or the
  /// conductance / reference_microsiemens where that is given.
  std::optional<std::vector<double>> coefficients_microsiemens = std::nullopt;
  std::optional<double> reference_microsiemens = std::nullopt;
  /// polynomial: sigma in level steps = sum of c[i] * level^i, not below 0.
  std::optional<std::vector<double>> coefficients_levels = std::nullopt;
  /// table: one value per level; means default to the programmed conductance. Level steps count from level 0.
  std::optional<std::vector<double>> means_levels = std::nullopt;
  std::optional<std::vector<double>> sigmas_levels = std::nullopt;
  std::optional<std::vector<double>> means_microsiemens = std::nullopt;
  std::optional<std::vector<double>> sigmas_microsiemens = std::nullopt;
};

/// Noise that is new at every access: per cell Gaussian, added up over a column.
struct ReadNoise {
  std::string model = "none";
  double sigma_levels = 0.0;                                ///< constant: standard deviation in level steps, or
  std::optional<double> sigma_microsiemens = std::nullopt;  ///< ... in microsiemens (needs the window)
  std::optional<double> sigma_ratio = std::nullopt;         ///< proportional: standard deviation / conductance
};

/// Shares of cells that always conduct what level 0 (HRS) or the top level (LRS) conducts.
struct StuckAt {
  double hrs_rate = 0.0;
  double lrs_rate = 0.0;
};

/// G(t) = G(t0) * (t / t0)^-nu, nu Gaussian from cell to cell.
struct Drift {
  double nu = 0.0;
  double nu_sigma = 0.0;
  double t0_s = 1.0;
  double time_s = 1.0;  ///< when the cells are read, at least t0_s
};

struct Cell {
  std::optional<double> g_min_microsiemens;  ///< conductance of level 0
  std::optional<double> g_max_microsiemens;  ///< conductance of the top level
  std::optional<double> hrs_ohm;             ///< the same window given as resistances
  std::optional<double> lrs_ohm;
  Programming programming;
  ReadNoise read;
  StuckAt stuck_at;
  Drift drift;
};

/// Resistance of the lines of an array.
struct Wires {
  double word_line_ohm = 0.0;  ///< of the piece of word line between neighbouring cells
  double bit_line_ohm = 0.0;   ///< of the piece of bit line between neighbouring cells
  /// Share of the other rows whose cells conduct while a row is read. 1: word lines of digit 0 are held at ground.
  double mean_activity = 1.0;
};

}  // namespace cimq
