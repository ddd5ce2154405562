#include "kernels/cell_noise.h"

#include <map>
#include <mutex>

namespace cimq::kernels {
namespace {

/// Tables depend on sigma alone, and building one takes longer than programming a small layer.
std::shared_ptr<const QuantileTable> gaussian_table(double sigma) {
  constexpr std::size_t kMaxTables = 64;
  static std::mutex mutex;
  static std::map<double, std::shared_ptr<const QuantileTable>> tables;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = tables.find(sigma);
  if (found != tables.end()) return found->second;
  if (tables.size() >= kMaxTables) tables.clear();
  return tables[sigma] = std::make_shared<const QuantileTable>(QuantileTable::gaussian(0.0, sigma));
}

}  // namespace

CellNoise::CellNoise(const Hardware& hardware, const MvmOptions& options)
    : seed_(options.seed), chip_(options.chip), layer_(options.layer) {
  if (hardware.varies()) programming_ = gaussian_table(hardware.cell.programming.sigma_levels * kConductanceUnit);
}

std::int32_t CellNoise::conductance(std::int32_t level, std::int64_t output, std::int64_t input, std::int64_t inputs,
                                    int slice, int polarity) const {
  const std::uint64_t cell = cell_index(output, input, inputs, polarity);
  const PhiloxCounter words = cell_words(seed_, chip_, layer_, slice, CellPurpose::kProgramming, cell >> 2);
  return noisy_conductance(level, programming_->sample(words.word[cell & 3U]));
}

std::int32_t CellNoise::Row::conductance(std::int32_t level, std::int64_t input, int polarity) {
  const std::uint64_t cell = cell_index(output_, input, inputs_, polarity);
  if (cell >> 2 != block_) {
    block_ = cell >> 2;
    words_ = cell_words(noise_.seed_, noise_.chip_, noise_.layer_, slice_, CellPurpose::kProgramming, block_);
  }
  return noisy_conductance(level, noise_.programming_->sample(words_.word[cell & 3U]));
}

std::int32_t CellNoise::largest_conductance(std::int32_t level) const {
  return noisy_conductance(level, programming_->largest());
}

}  // namespace cimq::kernels
