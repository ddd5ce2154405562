// What a cell conducts, as a distribution: the models of cell.h in level steps (docs/cells.md). Host only, in double;
// kernels/noise/cell_noise.h turns it into the tables that every device samples in integers.
#pragma once

#include "common/hardware.h"

namespace cimq {

/// The largest level, base current included, that 16 bits in 1/256 level hold.
constexpr double kMaxConductanceLevels = 127.0;

/// Conductance of a cell right after programming: median or mean, and spread.
struct LevelDistribution {
  double mean = 0.0;   ///< level steps above zero conductance (the median where lognormal)
  double shift = 0.0;  ///< mean less the nominal conductance of the level; 0 unless a table says otherwise
  double sigma = 0.0;  ///< level steps; of ln(conductance) where lognormal
  bool lognormal = false;
};

/// Conductance window in microsiemens; {0, 0} where none is given.
struct Window {
  double g_min = 0.0;
  double g_max = 0.0;
  bool given() const { return g_max > 0.0; }
};
Window conductance_window(const Cell& cell);

/// Microsiemens between two neighbouring levels: (g_max - g_min) / (2^c - 1); 0 without a window.
double level_step_microsiemens(const Hardware& hardware);

/// What level 0 conducts, in level steps; 0 without a window.
double base_levels(const Hardware& hardware);

/// Distribution of a cell that was programmed to `level`.
LevelDistribution programmed_level(const Hardware& hardware, int level);

/// Standard deviation of a cell's read noise in level steps ("constant"), or as a share of its conductance.
double read_sigma(const Hardware& hardware);

/// Factor of a cell whose exponent is nu + z * nu_sigma: (time / t0)^-(nu + z * nu_sigma).
double drift_factor(const Drift& drift, double z);

/// True if drift factors differ from cell to cell.
bool drift_varies(const Drift& drift);

/// Throws cimq::Error for a cell or wires that contradict themselves or the rest of `hardware`.
void check_cells(const Hardware& hardware);

}  // namespace cimq
