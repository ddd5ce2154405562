#include "kernels/cpu/program/programmed_cells.h"

#include <algorithm>
#include <array>

#include "common/rounding.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/tile/dispatch.h"
#include "kernels/noise/cell_noise.h"
#include "kernels/noise/ir_drop.h"

namespace cimq::kernels::cpu {
namespace {

/// Level of a slice for every int8 weight (by its bits), of each polarity.
using WeightLevels = std::array<std::array<std::uint8_t, 256>, 2>;

WeightLevels weight_levels(const MvmPlan& plan, int slice) {
  WeightLevels levels{};
  const std::int32_t top = largest_weight(plan.weight_bits);
  for (std::int32_t value = -top; value <= top; ++value) {
    for (int polarity = 0; polarity < plan.polarities(); ++polarity) {
      levels.at(static_cast<std::size_t>(polarity)).at(static_cast<std::uint8_t>(value)) =
          static_cast<std::uint8_t>(cell_level(plan, value, slice, polarity));
    }
  }
  return levels;
}

/// The cells of one slice as they lie in memory: [polarities][outputs * inputs].
struct SliceCells {
  const std::int8_t* weights;
  std::int64_t count;  ///< outputs * inputs
  int polarities;
  std::int16_t* first;  ///< of polarity 0; polarity 1 follows `count` later
};

/// Weights that are sampled together, and of which a thread takes no fewer.
constexpr std::int64_t kWeightsAtOnce = 1024;
constexpr std::int64_t kChunksOfThread = 8;

/// The outputs [begin, end).
void sample_one_by_one(const CellNoise& noise, const MvmOptions& options, const MvmPlan& plan, int slice,
                       const WeightLevels& levels, const SliceCells& cells, std::int64_t begin, std::int64_t end) {
  const std::int8_t* weight = cells.weights + begin * plan.inputs;
  std::int16_t* value = cells.first + begin * plan.inputs;
  for (std::int64_t o = begin; o < end; ++o) {
    CellNoise::Row row(noise, options.first_output + o, plan.inputs, slice);
    for (std::int64_t k = 0; k < plan.inputs; ++k, ++value) {
      const auto bits = static_cast<std::uint8_t>(*weight++);
      value[0] = static_cast<std::int16_t>(row.conductance(levels[0][bits], k, 0));
      if (cells.polarities == 2) value[cells.count] = static_cast<std::int16_t>(row.conductance(levels[1][bits], k, 1));
    }
  }
}

/// The weights [begin, end) by a sampler. Numbers of cells go through a slice without a gap: weight j has cells 2j and
/// 2j + 1 from the first output on.
void sample_many(CellSampler sampler, const CellStream& stream, std::uint64_t first_cell, const WeightLevels& levels,
                 const SliceCells& cells, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kCells = 2 * kWeightsAtOnce + kSampledAtOnce;
  std::array<std::uint8_t, kCells> level{};
  std::array<std::int16_t, kCells> value{};
  for (std::int64_t done = begin; done < end; done += kWeightsAtOnce) {
    const std::int64_t weights = std::min(kWeightsAtOnce, end - done);
    const std::uint64_t cell = first_cell + 2 * static_cast<std::uint64_t>(done);
    const auto skipped = static_cast<std::size_t>(cell & 3U);  // cells of the first block that are not of this run
    std::uint8_t* out = level.data() + skipped;
    for (std::int64_t j = 0; j < weights; ++j) {
      const auto bits = static_cast<std::uint8_t>(cells.weights[done + j]);
      out[2 * j] = levels[0][bits];
      out[2 * j + 1] = levels[1][bits];
    }
    const std::int64_t used = static_cast<std::int64_t>(skipped) + 2 * weights;
    const std::int64_t whole = (used + kSampledAtOnce - 1) / kSampledAtOnce * kSampledAtOnce;
    sampler(stream, cell >> 2, whole, level.data(), value.data());
    const std::int16_t* sampled = value.data() + skipped;
    std::int16_t* positive = cells.first + done;
    for (std::int64_t j = 0; j < weights; ++j) positive[j] = sampled[2 * j];
    if (cells.polarities < 2) continue;
    std::int16_t* negative = positive + cells.count;
    for (std::int64_t j = 0; j < weights; ++j) negative[j] = sampled[2 * j + 1];
  }
}

}  // namespace

ProgrammedCells::ProgrammedCells(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options,
                                 const std::int8_t* w)
    : polarities_(plan.polarities()), plane_size_(static_cast<std::size_t>(plan.outputs * plan.inputs)) {
  const CellNoise noise(hardware, options);
  const CellTables& tables = noise.tables();
  const CellSampler sampler = active_kernels().sampler;
  const bool many = sampler != nullptr && tables.programming_varies() && !tables.stuck() && !tables.drift_varies();
  values_.resize(plane_size_ * static_cast<std::size_t>(polarities_ * plan.n_w));
  for (int slice = 0; slice < plan.n_w; ++slice) {
    const WeightLevels levels = weight_levels(plan, slice);
    const SliceCells cells{w, plan.outputs * plan.inputs, polarities_,
                           values_.data() + static_cast<std::size_t>(slice * polarities_) * plane_size_};
    if (many) {
      const CellStream stream{noise.seed(),          noise.chip(),
                              noise.layer(),         slice,
                              tables.nodes().data(), tables.offsets().data(),
                              tables.fixed().data(), static_cast<int>(tables.fixed().size())};
      const std::uint64_t first = cell_index(options.first_output, 0, plan.inputs, 0);
      const std::int64_t chunks = ceil_div(cells.count, kWeightsAtOnce);
      parallel_for(chunks, kChunksOfThread, [&](std::int64_t begin, std::int64_t end) {
        sample_many(sampler, stream, first, levels, cells, begin * kWeightsAtOnce,
                    std::min(end * kWeightsAtOnce, cells.count));
      });
    } else {
      const std::int64_t grain = std::max<std::int64_t>(1, kWeightsAtOnce / plan.inputs);
      parallel_for(plan.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
        sample_one_by_one(noise, options, plan, slice, levels, cells, begin, end);
      });
    }
  }
  apply_ir_drop(IrDrop::of(hardware), plan, hardware, values_);
}

const std::int16_t* ProgrammedCells::plane(int slice, int polarity) const {
  return values_.data() + static_cast<std::size_t>(slice * polarities_ + polarity) * plane_size_;
}

}  // namespace cimq::kernels::cpu
