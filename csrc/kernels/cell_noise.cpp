#include "kernels/cell_noise.h"

namespace cimq::kernels {

CellNoise::CellNoise(const Hardware& hardware, const MvmOptions& options)
    : seed_(options.seed), chip_(options.chip), layer_(options.layer) {
  if (!hardware.varies()) return;
  programming_ = std::make_shared<const QuantileTable>(
      QuantileTable::gaussian(0.0, hardware.cell.programming.sigma_levels * kConductanceUnit));
}

std::int32_t CellNoise::conductance(std::int32_t level, std::int64_t output, std::int64_t input, std::int64_t inputs,
                                    int slice, int polarity) const {
  const auto cell = static_cast<std::uint64_t>(output * inputs + input) * 2U + static_cast<std::uint64_t>(polarity);
  const std::uint32_t word = cell_word(seed_, chip_, layer_, slice, CellPurpose::kProgramming, cell);
  return noisy_conductance(level, programming_->sample(word));
}

std::int32_t CellNoise::largest_conductance(std::int32_t level) const {
  return noisy_conductance(level, programming_->largest());
}

}  // namespace cimq::kernels
