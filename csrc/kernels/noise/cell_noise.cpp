#include "kernels/noise/cell_noise.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "common/cell_model.h"
#include "common/rounding.h"

namespace cimq::kernels {
namespace {

/// Everything that the tables depend on.
std::vector<double> key_of(const Hardware& hardware) {
  std::vector<double> key = {static_cast<double>(hardware.cell_bits),
                             base_levels(hardware),
                             hardware.cell.stuck_at.hrs_rate,
                             hardware.cell.stuck_at.lrs_rate,
                             hardware.cell.drift.nu,
                             hardware.cell.drift.nu_sigma,
                             hardware.cell.drift.t0_s,
                             hardware.cell.drift.time_s};
  if (hardware.cell.programming.model == "none") return key;
  for (int level = 0; level < 1 << hardware.cell_bits; ++level) {
    const LevelDistribution d = programmed_level(hardware, level);
    key.insert(key.end(), {d.mean, d.shift, d.sigma, d.lognormal ? 1.0 : 0.0});
  }
  return key;
}

/// A rate as the number of 32-bit words that it covers.
std::uint64_t words_of_rate(double rate) { return static_cast<std::uint64_t>(round_half_even(std::ldexp(rate, 32))); }

/// Median `mean`, ln with standard deviation `sigma`, less `fixed`; in 1/256 level.
QuantileTable lognormal_table(double mean, double sigma, double fixed) {
  return QuantileTable([=](double u, bool upper) {
    const double z = inverse_normal_cdf(u);
    return mean * std::exp(sigma * (upper ? -z : z)) - fixed;
  });
}

}  // namespace

CellTables::CellTables(const Hardware& hardware) {
  const double base = base_levels(hardware) * kConductanceUnit;
  base_ = static_cast<std::int32_t>(round_half_even(base));
  const std::int32_t levels = 1 << hardware.cell_bits;
  top_ = nominal(levels - 1);
  const StuckAt& stuck = hardware.cell.stuck_at;
  stuck_hrs_ = words_of_rate(stuck.hrs_rate);
  stuck_lrs_ = std::min(std::uint64_t{1} << 32, stuck_hrs_ + words_of_rate(stuck.lrs_rate));

  const Drift& drift = hardware.cell.drift;
  const bool spread = cimq::drift_varies(drift);
  // A factor that all cells share goes into the tables.
  const double factor = spread ? 1.0 : drift_factor(drift, 0.0);
  if (spread) {
    drift_.emplace_back([&](double u, bool upper) {
      // The factor falls with z: its lower tail is z's upper one.
      const double z = inverse_normal_cdf(u);
      return std::ldexp(drift_factor(drift, upper ? z : -z), kDriftFractionBits);
    });
  }

  const auto append = [this](const QuantileTable& table) {
    if (nodes_.empty()) nodes_.assign(2 * kQuantileNodes, 0);  // the table of certain levels
    const auto offset = static_cast<std::int32_t>(nodes_.size());
    nodes_.insert(nodes_.end(), table.nodes().begin(), table.nodes().end());
    return offset;
  };
  std::map<std::pair<double, double>, std::int32_t> gaussians;  // levels may share a table
  for (std::int32_t level = 0; level < levels; ++level) {
    const LevelDistribution d = programmed_level(hardware, level);
    const bool as_programmed = factor == 1.0 && d.shift == 0.0;
    // Splitting off the whole part keeps the remainder the same for every level.
    const double mean = d.mean * factor * kConductanceUnit;
    const auto fixed = as_programmed ? nominal(level) : static_cast<std::int32_t>(round_half_even(mean));
    const double remainder = as_programmed ? base - base_ : mean - fixed;
    fixed_.push_back(fixed);
    offsets_.push_back(0);
    if (d.sigma <= 0.0) continue;
    if (d.lognormal) {
      offsets_.back() = append(lognormal_table(mean, d.sigma, fixed));
    } else {
      const double sigma = d.sigma * factor * kConductanceUnit;
      std::int32_t& offset = gaussians[{remainder, sigma}];
      if (offset == 0) offset = append(QuantileTable::gaussian(remainder, sigma));
      offsets_.back() = offset;
    }
  }
}

std::shared_ptr<const CellTables> CellTables::of(const Hardware& hardware) {
  constexpr std::size_t kMaxEntries = 64;
  static std::mutex mutex;
  static std::map<std::vector<double>, std::shared_ptr<const CellTables>> made;
  const std::vector<double> key = key_of(hardware);
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = made.find(key);
  if (found != made.end()) return found->second;
  if (made.size() >= kMaxEntries) made.clear();
  return made[key] = std::make_shared<const CellTables>(hardware);
}

std::int32_t CellTables::largest(std::int32_t level) const {
  std::int32_t bound = base_;
  for (std::int32_t q = 0; q <= level; ++q) {
    const auto index = static_cast<std::size_t>(q);
    std::int32_t value = fixed_[index];
    if (offsets_[index] != 0) {
      // The table of the level ends with the word of all ones; interpolation never leaves its nodes.
      const std::int32_t* nodes = nodes_.data() + offsets_[index];
      value += *std::max_element(nodes, nodes + 2 * kQuantileNodes) / (1 << kQuantileFractionBits) + 1;
    }
    value = clamped_conductance(value);
    if (!drift_.empty()) value = drifted_conductance(value, drift_[0].largest());
    bound = std::max(bound, value);
  }
  return stuck_lrs_ > stuck_hrs_ ? std::max(bound, top_) : bound;
}

CellNoise::CellNoise(const Hardware& hardware, const MvmOptions& options)
    : seed_(options.seed), chip_(options.chip), layer_(options.layer), tables_(CellTables::of(hardware)) {}

PhiloxCounter CellNoise::words(CellPurpose purpose, int slice, std::uint64_t block, bool used) const {
  if (!used) return {{kUnusedCellWord, kUnusedCellWord, kUnusedCellWord, kUnusedCellWord}};
  return cell_words(seed_, chip_, layer_, slice, purpose, block);
}

std::int32_t CellNoise::conductance(std::int32_t level, std::int64_t output, std::int64_t input, std::int64_t inputs,
                                    int slice, int polarity) const {
  Row row(*this, output, inputs, slice);
  return row.conductance(level, input, polarity);
}

void CellNoise::Row::draw(std::uint64_t block) {
  block_ = block;
  const CellTables& tables = *noise_.tables_;
  programming_ = noise_.words(CellPurpose::kProgramming, slice_, block, tables.programming_varies());
  stuck_ = noise_.words(CellPurpose::kStuck, slice_, block, tables.stuck());
  drift_ = noise_.words(CellPurpose::kDrift, slice_, block, tables.drift_varies());
}

}  // namespace cimq::kernels
