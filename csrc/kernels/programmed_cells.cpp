#include "kernels/programmed_cells.h"

#include <algorithm>
#include <array>

#include "kernels/cell_noise.h"
#include "kernels/ir_drop.h"

namespace cimq::kernels {

ProgrammedCells::ProgrammedCells(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options,
                                 const std::int8_t* w)
    : polarities_(plan.polarities()), plane_size_(static_cast<std::size_t>(plan.outputs * plan.inputs)) {
  const CellNoise noise(hardware, options);
  values_.resize(plane_size_ * static_cast<std::size_t>(polarities_ * plan.n_w));
  const std::int32_t top = std::max(1, (1 << (plan.weight_bits - 1)) - 1);
  for (int slice = 0; slice < plan.n_w; ++slice) {
    std::array<std::array<std::int32_t, 256>, 2> levels{};  // of each polarity, for every int8 weight (by its bits)
    for (std::int32_t value = -top; value <= top; ++value) {
      for (int polarity = 0; polarity < polarities_; ++polarity) {
        levels.at(static_cast<std::size_t>(polarity)).at(static_cast<std::uint8_t>(value)) =
            cell_level(plan, value, slice, polarity);
      }
    }
    std::int16_t* first = values_.data() + static_cast<std::size_t>(slice * polarities_) * plane_size_;
    const std::int8_t* weight = w;
    for (std::int64_t o = 0; o < plan.outputs; ++o) {
      CellNoise::Row row(noise, options.first_output + o, plan.inputs, slice);
      for (std::int64_t k = 0; k < plan.inputs; ++k, ++first) {
        const auto bits = static_cast<std::uint8_t>(*weight++);
        first[0] = static_cast<std::int16_t>(row.conductance(levels[0][bits], k, 0));
        if (polarities_ == 2) first[plane_size_] = static_cast<std::int16_t>(row.conductance(levels[1][bits], k, 1));
      }
    }
  }
  apply_ir_drop(IrDrop::of(hardware), plan, hardware.rows, hardware.cols, values_);
}

const std::int16_t* ProgrammedCells::plane(int slice, int polarity) const {
  return values_.data() + static_cast<std::size_t>(slice * polarities_ + polarity) * plane_size_;
}

}  // namespace cimq::kernels
