#include "kernels/noise/read_noise.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>

#include "common/cell_model.h"
#include "common/error.h"

namespace cimq::kernels {
namespace {

/// Cells and squared digits are multiplied as int16, and added up in int32.
constexpr std::int64_t kMaxVariance = 32767;
/// Fewer steps than these would not tell the levels apart.
constexpr std::int64_t kMinVariance = 16;

std::shared_ptr<const QuantileTable> noise_table(const ReadScale& scale) {
  constexpr std::size_t kMaxTables = 64;
  static std::mutex mutex;
  static std::map<double, std::shared_ptr<const QuantileTable>> tables;
  const double sigma = std::ldexp(scale.unit, scale.sample_bits);
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = tables.find(sigma);
  if (found != tables.end()) return found->second;
  if (tables.size() >= kMaxTables) tables.clear();
  return tables[sigma] = std::make_shared<const QuantileTable>(QuantileTable::gaussian(0.0, sigma));
}

/// Smallest shift with which the variances of a column's cells, and their sum, fit.
int variance_shift(const MvmPlan& plan, std::int64_t inputs, std::int64_t max_digit, std::int64_t max_cell) {
  const std::int64_t square = max_digit * max_digit;
  check(square <= kMaxVariance, "crossbar_mvm: cell.read.model proportional needs input digits up to 181, got ",
        max_digit, " (act_bits ", plan.act_bits, ", dac_bits ", plan.dac_bits, "); use at most 7 dac_bits");
  const std::int64_t bound =
      std::min(kMaxVariance, std::numeric_limits<std::int32_t>::max() / std::max<std::int64_t>(1, inputs * square));
  int shift = 0;
  while (plan.cells_per_column * cell_variance(static_cast<std::int32_t>(max_cell), shift) > bound) ++shift;
  check(plan.cells_per_column * cell_variance(static_cast<std::int32_t>(max_cell), shift) >= kMinVariance || shift == 0,
        "crossbar_mvm: cell.read.model proportional cannot tell the levels apart in 32 bits with ", inputs,
        " inputs per tile and digits up to ", max_digit, "; use fewer rows or dac_bits");
  return shift;
}

}  // namespace

ReadScale ReadScale::of(const Hardware& hardware, const MvmPlan& plan) {
  const bool proportional = plan.reads == ReadModel::kProportional;
  ReadScale scale;
  scale.unit = read_sigma(hardware) * (proportional ? std::sqrt(std::ldexp(1.0, plan.read_shift)) : kConductanceUnit);
  constexpr double kLargestZ = 7.0;  // no word is that far out
  while (scale.sample_bits < kMaxSampleBits &&
         std::ldexp(kLargestZ * scale.unit, scale.sample_bits + 1) <= kQuantileMaxSample) {
    ++scale.sample_bits;
  }
  return scale;
}

ColumnNoise::ColumnNoise(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options)
    : seed_(options.seed), chip_(options.chip), layer_(options.layer), first_output_(options.first_output) {
  const ReadScale scale = ReadScale::of(hardware, plan);
  sample_bits_ = scale.sample_bits;
  table_ = noise_table(scale);
}

std::int64_t plan_read_noise(MvmPlan& plan, const Hardware& hardware, std::int64_t max_digit, std::int64_t max_cell) {
  if (read_sigma(hardware) <= 0.0) return 0;
  plan.reads = hardware.cell.read.model == "proportional" ? ReadModel::kProportional : ReadModel::kConstant;
  plan.cells_per_column = plan.separate_columns ? 1 : plan.polarities();
  const std::int64_t inputs = std::min(plan.inputs, plan.inputs_per_tile);
  std::int64_t variance = plan.cells_per_column * inputs * max_digit * max_digit;
  if (plan.reads == ReadModel::kProportional) {
    plan.read_shift = variance_shift(plan, inputs, max_digit, max_cell);
    variance *= cell_variance(static_cast<std::int32_t>(max_cell), plan.read_shift);
  }
  const ReadScale scale = ReadScale::of(hardware, plan);
  return column_noise(variance, noise_table(scale)->largest(), scale.sample_bits) + 1;
}

}  // namespace cimq::kernels
